//! Scaled dot-product attention over heads side by side in the channels (diffusers' `Attention` with `AttnProcessor2_0`, torch's
//! `scaled_dot_product_attention`), one node of the graph that stores no scores.

use candle_core::{Device, Tensor};

use super::graph::{Output, attach};
use super::{Activation, Misfit, composed, host};
use crate::Result;
use crate::kernels::attention::backward::{self, Saved};
use crate::kernels::attention::{self as kernel, Sizes};

/// Which keys a query may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All.
    None,
    /// Those up to its own position, as in CLIP's text encoder.
    Causal,
}

/// `softmax(q k^T / sqrt(d)) v` per head: `q` `[b, n, heads * d]`, `k` and `v` `[b, m, heads * d]` to `[b, n, heads * d]`.
///
/// All three get gradients where tracked. Errors where shapes do not fit, `heads` does not divide the channels, there are no keys,
/// or a causal mask meets `n != m`.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, mask: Mask) -> Result<Tensor> {
    let name = "attention";
    let sizes = Sizes { causal: mask == Mask::Causal, ..sizes(name, q, k, heads)? };
    if v.dims() != k.dims() {
        return Err(Misfit::Attended { names: ["keys", "values"], found: [k.dims().to_vec(), v.dims().to_vec()] }.of(name));
    }
    if sizes.causal && sizes.queries != sizes.keys {
        return Err(Misfit::Causal { queries: sizes.queries, keys: sizes.keys }.of(name));
    }
    let [query, key, value] = [host::activation(name, q)?, host::activation(name, k)?, host::activation(name, v)?];
    if !query.device().is_cpu() {
        let (output, log_sums) = composed::attention(&query, &key, &value, &sizes)?;
        return attach(name, &[q, k, v], output.into(), move |call| {
            let [q, k, v] = [&call.inputs[0], &call.inputs[1], &call.inputs[2]];
            let gradients = composed::attention_gradient([q, k, v], &call.output, &log_sums, &call.gradient, &sizes)?;
            Ok(gradients.map(Some).into())
        });
    }
    let (values, log_sums) = kernel::forward(&host::read(&query)?, &host::read(&key)?, &host::read(&value)?, &sizes);
    attach(name, &[q, k, v], Output::host(values, q.shape().clone()), move |call| {
        let [q, k, v] = [call.inputs[0].contiguous()?, call.inputs[1].contiguous()?, call.inputs[2].contiguous()?];
        let (query, key, value) = (host::read(&q)?, host::read(&k)?, host::read(&v)?);
        let (out, gradient) = (host::read(&call.output)?, host::read(&call.gradient)?);
        let saved = Saved { q: &query, k: &key, v: &value, out: &out, log_sums: &log_sums, gradient: &gradient };
        let [to_q, to_k, to_v] = backward::backward(&saved, &sizes);
        let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), &Device::Cpu);
        Ok(vec![Some(tensor(to_q, &q)?), Some(tensor(to_k, &k)?), Some(tensor(to_v, &v)?)])
    })
}

impl Activation {
    /// [`attention`] with these as queries. The backward pass reads queries, keys, values and the result.
    ///
    /// # Errors
    /// As [`attention`].
    pub fn attention(&self, k: &Self, v: &Self, heads: usize, mask: Mask) -> Result<Self> {
        attention(self.saved(), k.saved(), v.saved(), heads, mask).map(Self::shared)
    }
}

/// Checks queries and keys against each other.
pub(super) fn sizes(name: &'static str, q: &Tensor, k: &Tensor, heads: usize) -> Result<Sizes> {
    let (&[batch, queries, width], &[key_batch, keys, key_width]) = (q.dims(), k.dims()) else {
        let found = [q.dims().to_vec(), k.dims().to_vec()];
        return Err(Misfit::Ranks { expected: "[b, n, c] and [b, m, c]", found }.of(name));
    };
    if batch != key_batch || width != key_width {
        return Err(Misfit::Attended { names: ["queries", "keys"], found: [q.dims().to_vec(), k.dims().to_vec()] }.of(name));
    }
    if heads == 0 || width == 0 || width % heads != 0 {
        return Err(Misfit::Division { name: "heads", count: heads, channels: width }.of(name));
    }
    if keys == 0 {
        return Err(Misfit::NoKeys.of(name));
    }
    Ok(Sizes { batch, queries, keys, heads, head: width / heads, causal: false })
}
