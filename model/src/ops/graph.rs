//! Makes a result that was computed outside candle's graph a node of it, with its own backward pass.
//!
//! candle records an operation when one of its arguments is tracked. The operations here compute first, on detached inputs, and
//! only then enter the graph, as a custom operation whose forward pass hands over what is already there. So nothing inside an
//! operation is recorded, and the backward pass is the closure given to [`attach`].

use std::sync::Mutex;

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, MetalStorage, Shape, Storage, Tensor,
};

use crate::Result;

/// Whether gradients flow through `tensor`: it is a variable or was computed from one.
pub fn is_tracked(tensor: &Tensor) -> bool {
    tensor.track_op()
}

/// What an operation computed.
pub(crate) enum Output {
    /// Values on the CPU in row-major order; they move into the graph without a copy.
    Host(Vec<f32>, Shape),
    /// A tensor on any device.
    Tensor(Tensor),
}

impl Output {
    /// Values on the CPU in row-major order.
    pub fn host(values: Vec<f32>, shape: impl Into<Shape>) -> Self {
        Self::Host(values, shape.into())
    }

    /// The result as a tensor outside the graph.
    pub fn into_tensor(self) -> Result<Tensor> {
        match self {
            Self::Host(values, shape) => Ok(Tensor::from_vec(values, shape, &Device::Cpu)?),
            Self::Tensor(tensor) => Ok(tensor.detach()),
        }
    }
}

impl From<Tensor> for Output {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

/// What a backward closure gets: everything detached from the graph.
pub(crate) struct Backward {
    /// The operation's inputs, in the order given to [`attach`].
    pub inputs: Vec<Tensor>,
    /// Which inputs need a gradient.
    pub tracked: Vec<bool>,
    /// The operation's result.
    pub output: Tensor,
    /// The gradient of the result, contiguous.
    pub gradient: Tensor,
}

/// Puts `output` into the graph as computed from `inputs` (one to three).
///
/// `backward` answers one gradient per input, in order; `None` stands for zeros. Entries of inputs that are not tracked are
/// dropped. Where no input is tracked, the output stays outside the graph and `backward` is never called.
pub(crate) fn attach<F>(name: &'static str, inputs: &[&Tensor], output: Output, backward: F) -> Result<Tensor>
where
    F: Fn(&Backward) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
{
    if !inputs.iter().any(|input| is_tracked(input)) {
        return output.into_tensor();
    }
    let node = Node { name, computed: Mutex::new(Some(output)), backward };
    let attached = match inputs {
        [a] => a.apply_op1(node),
        [a, b] => a.apply_op2(b, node),
        [a, b, c] => a.apply_op3(b, c, node),
        _ => Err(candle_core::Error::msg(format!("{name}: an operation has one to three inputs, not {}", inputs.len()))),
    };
    Ok(attached?)
}

/// The custom operation of one result.
struct Node<F> {
    name: &'static str,
    /// Taken by the one forward call; candle makes one per node.
    computed: Mutex<Option<Output>>,
    backward: F,
}

impl<F> Node<F>
where
    F: Fn(&Backward) -> Result<Vec<Option<Tensor>>>,
{
    fn take(&self) -> candle_core::Result<Output> {
        let mut computed = self.computed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        computed.take().ok_or_else(|| candle_core::Error::msg(format!("{}: the result was already handed over", self.name)))
    }

    fn host(&self) -> candle_core::Result<(CpuStorage, Shape)> {
        match self.take()? {
            Output::Host(values, shape) => Ok((CpuStorage::F32(values), shape)),
            Output::Tensor(tensor) => self.copy(&tensor, |storage, layout| match storage {
                Storage::Cpu(storage) => Some(storage.try_clone(layout)),
                _ => None,
            }),
        }
    }

    fn device<S>(&self, copy: impl Fn(&Storage, &Layout) -> Option<candle_core::Result<S>>) -> candle_core::Result<(S, Shape)> {
        match self.take()? {
            Output::Tensor(tensor) => self.copy(&tensor, copy),
            Output::Host(..) => Err(candle_core::Error::msg(format!("{}: the result is not on its inputs' device", self.name))),
        }
    }

    /// The storage behind `tensor`, which candle takes to be in row-major order from its first element on.
    fn copy<S>(
        &self,
        tensor: &Tensor,
        copy: impl Fn(&Storage, &Layout) -> Option<candle_core::Result<S>>,
    ) -> candle_core::Result<(S, Shape)> {
        let whole = |tensor: &Tensor| {
            let (storage, layout) = tensor.storage_and_layout();
            let length = match &*storage {
                Storage::Cpu(storage) => storage_length(storage),
                // The other devices' storages do not tell their length; their results are made whole by the callers.
                _ => layout.shape().elem_count(),
            };
            layout.is_contiguous() && layout.start_offset() == 0 && length == layout.shape().elem_count()
        };
        let tensor = if whole(tensor) { tensor.clone() } else { tensor.force_contiguous()? };
        let (storage, layout) = tensor.storage_and_layout();
        let storage = copy(&storage, layout)
            .ok_or_else(|| candle_core::Error::msg(format!("{}: the result is not on its inputs' device", self.name)))??;
        Ok((storage, tensor.shape().clone()))
    }

    fn gradients(&self, inputs: &[&Tensor], output: &Tensor, gradient: &Tensor) -> candle_core::Result<Vec<Option<Tensor>>> {
        let tracked: Vec<bool> = inputs.iter().map(|input| is_tracked(input)).collect();
        let call = Backward {
            inputs: inputs.iter().map(|input| input.detach()).collect(),
            tracked,
            output: output.detach(),
            gradient: gradient.detach().contiguous()?,
        };
        let mut answers = (self.backward)(&call).map_err(into_candle)?.into_iter();
        let mut gradients = Vec::with_capacity(inputs.len());
        for (input, tracked) in inputs.iter().zip(&call.tracked) {
            let answer = answers.next().flatten();
            gradients.push(match (tracked, answer) {
                (false, _) => None,
                (true, Some(gradient)) => Some(gradient.detach()),
                // candle's backward pass panics at a tracked tensor without a gradient.
                (true, None) => Some(input.zeros_like()?.detach()),
            });
        }
        Ok(gradients)
    }
}

fn storage_length(storage: &CpuStorage) -> usize {
    match storage {
        CpuStorage::F32(values) => values.len(),
        CpuStorage::F64(values) => values.len(),
        CpuStorage::F16(values) => values.len(),
        CpuStorage::BF16(values) => values.len(),
        // No operation here answers integers.
        _ => 0,
    }
}

/// This crate's error as candle's, for the way through candle's backward pass.
pub(crate) fn into_candle(error: crate::Error) -> candle_core::Error {
    match error {
        crate::Error::Tensors(error) => error,
        other => candle_core::Error::wrap(other),
    }
}

fn cuda(storage: &Storage, layout: &Layout) -> Option<candle_core::Result<CudaStorage>> {
    match storage {
        Storage::Cuda(storage) => Some(storage.try_clone(layout)),
        _ => None,
    }
}

fn metal(storage: &Storage, layout: &Layout) -> Option<candle_core::Result<MetalStorage>> {
    match storage {
        Storage::Metal(storage) => Some(storage.try_clone(layout)),
        _ => None,
    }
}

impl<F> CustomOp1 for Node<F>
where
    F: Fn(&Backward) -> Result<Vec<Option<Tensor>>>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.host()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        self.device(cuda)
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> candle_core::Result<(MetalStorage, Shape)> {
        self.device(metal)
    }

    fn bwd(&self, a: &Tensor, output: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(self.gradients(&[a], output, gradient)?.pop().flatten())
    }
}

impl<F> CustomOp2 for Node<F>
where
    F: Fn(&Backward) -> Result<Vec<Option<Tensor>>>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.host()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        self.device(cuda)
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        self.device(metal)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.gradients(&[a, b], output, gradient)?.into_iter();
        Ok((gradients.next().flatten(), gradients.next().flatten()))
    }
}

impl<F> CustomOp3 for Node<F>
where
    F: Fn(&Backward) -> Result<Vec<Option<Tensor>>>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.host()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        self.device(cuda)
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        self.device(metal)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.gradients(&[a, b, c], output, gradient)?.into_iter();
        Ok((gradients.next().flatten(), gradients.next().flatten(), gradients.next().flatten()))
    }
}
