//! Attention: tiles over queries, scores in float32 and never whole.

use candle_core::{D, DType, Tensor};

use crate::Result;
use crate::kernels::attention::Sizes;

/// Queries per tile of scores.
const QUERIES: usize = 1024;

/// `[b, n, heads * d]` to `[b, heads, n, d]`.
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, count, width) = x.dims3()?;
    Ok(x.contiguous()?.reshape((batch, count, heads, width / heads))?.transpose(1, 2)?.contiguous()?)
}

/// `[b, heads, n, d]` to `[b, n, heads * d]`.
fn join(x: &Tensor) -> Result<Tensor> {
    Ok(x.transpose(1, 2)?.contiguous()?.flatten_from(2)?)
}

/// Scores of the queries from `start` on against all keys, in float32, later keys hidden where causal.
fn scores(q: &Tensor, k: &Tensor, start: usize, sizes: &Sizes) -> Result<Tensor> {
    let scores = (q.matmul(&k.t()?)?.to_dtype(DType::F32)? * f64::from(sizes.scale()))?;
    if !sizes.causal {
        return Ok(scores);
    }
    let count = q.dim(2)?;
    let hidden = |query: usize, key: usize| if key > start + query { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> = (0..count).flat_map(|query| (0..sizes.keys).map(move |key| hidden(query, key))).collect();
    Ok(scores.broadcast_add(&Tensor::from_vec(mask, (count, sizes.keys), q.device())?)?)
}

/// The output and, `[b, heads, n, 1]`, the logarithms of the sums of the exponentials of the scores.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, sizes: &Sizes) -> Result<(Tensor, Tensor)> {
    let [q, k, v] = [split(q, sizes.heads)?, split(k, sizes.heads)?, split(v, sizes.heads)?];
    let (mut outputs, mut log_sums) = (Vec::new(), Vec::new());
    for start in (0..sizes.queries).step_by(QUERIES) {
        let q = q.narrow(2, start, QUERIES.min(sizes.queries - start))?.contiguous()?;
        let scores = scores(&q, &k, start, sizes)?;
        let greatest = scores.max_keepdim(D::Minus1)?;
        let weights = scores.broadcast_sub(&greatest)?.exp()?;
        let total = weights.sum_keepdim(D::Minus1)?;
        let weights = weights.broadcast_div(&total)?.to_dtype(v.dtype())?;
        outputs.push(weights.matmul(&v)?);
        log_sums.push(greatest.add(&total.log()?)?);
    }
    Ok((join(&Tensor::cat(&outputs, 2)?)?, Tensor::cat(&log_sums, 2)?))
}

/// The gradients of queries, keys and values.
pub fn attention_gradient(
    [q, k, v]: [&Tensor; 3],
    output: &Tensor,
    log_sums: &Tensor,
    gradient: &Tensor,
    sizes: &Sizes,
) -> Result<[Tensor; 3]> {
    let [q, k, v] = [split(q, sizes.heads)?, split(k, sizes.heads)?, split(v, sizes.heads)?];
    let [output, gradient] = [split(output, sizes.heads)?, split(gradient, sizes.heads)?];
    let scale = f64::from(sizes.scale());
    let (mut to_q, mut to_k, mut to_v) = (Vec::new(), k.zeros_like()?, v.zeros_like()?);
    for start in (0..sizes.queries).step_by(QUERIES) {
        let count = QUERIES.min(sizes.queries - start);
        let block = |x: &Tensor| -> Result<Tensor> { Ok(x.narrow(2, start, count)?.contiguous()?) };
        let (q, output, gradient, log_sums) = (block(&q)?, block(&output)?, block(&gradient)?, block(log_sums)?);
        let weights = scores(&q, &k, start, sizes)?.broadcast_sub(&log_sums)?.exp()?;
        let mean = output.to_dtype(DType::F32)?.mul(&gradient.to_dtype(DType::F32)?)?.sum_keepdim(D::Minus1)?;
        let slopes = gradient.matmul(&v.t()?)?.to_dtype(DType::F32)?.broadcast_sub(&mean)?;
        let slopes = (weights.mul(&slopes)? * scale)?.to_dtype(q.dtype())?;
        let weights = weights.to_dtype(q.dtype())?;
        to_v = to_v.add(&weights.t()?.matmul(&gradient)?)?;
        to_k = to_k.add(&slopes.t()?.matmul(&q)?)?;
        to_q.push(slopes.matmul(&k)?);
    }
    Ok([join(&Tensor::cat(&to_q, 2)?)?, join(&to_k)?, join(&to_v)?])
}

/// `[b, heads, n, m]`.
pub fn attention_probabilities(q: &Tensor, k: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let scores = scores(&split(q, sizes.heads)?, &split(k, sizes.heads)?, 0, sizes)?;
    Ok(softmax(&scores)?.to_dtype(q.dtype())?)
}

/// `[b, n, m]`, one head at a time.
pub fn attention_probabilities_mean(q: &Tensor, k: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let [q, k] = [split(q, sizes.heads)?, split(k, sizes.heads)?];
    let mut sum = Tensor::zeros((sizes.batch, sizes.queries, sizes.keys), DType::F32, q.device())?;
    for head in 0..sizes.heads {
        let [q, k] = [q.narrow(1, head, 1)?.contiguous()?, k.narrow(1, head, 1)?.contiguous()?];
        sum = sum.add(&softmax(&scores(&q, &k, 0, sizes)?)?.squeeze(1)?)?;
    }
    Ok((sum / sizes.heads as f64)?.to_dtype(q.dtype())?)
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    Ok(weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?)
}
