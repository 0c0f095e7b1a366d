//! Two-dimensional convolution (`torch.nn.functional.conv2d` without dilation and groups), with a frozen or a trainable weight.
//!
//! Difference from torch: padding may differ on the four sides, which Stable Diffusion's VAE needs (it pads right and bottom only)
//! and torch does by a separate copy.

use candle_core::{Device, Tensor};

use super::graph::{Output, attach};
use super::{Activation, Misfit, composed, host};
use crate::Result;
use crate::kernels::conv as kernel;
use crate::kernels::conv::Filters;
use crate::kernels::conv::Geometry;

/// Zeros added around an image before a convolution, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same on all four sides.
    pub fn same(pixels: usize) -> Self {
        Self { top: pixels, bottom: pixels, left: pixels, right: pixels }
    }
}

/// Convolves `x` `[b, c_in, h, w]` with a frozen `weight` `[c_out, c_in, kh, kw]` and adds `bias` `[c_out]`:
/// `[b, c_out, (h + top + bottom - kh) / stride + 1, ...]`.
///
/// The backward pass gives the input gradient alone. Errors where shapes do not fit each other or the kernel exceeds the padded
/// input.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize, padding: Padding) -> Result<Tensor> {
    let shape = Shape::new("conv2d", x, weight, bias, stride, padding)?;
    let (input, weight) = (host::activation("conv2d", x)?, host::weight(weight)?);
    let bias = bias.map(host::weight).transpose()?;
    let output = forward(&input, &weight, bias.as_ref(), &shape)?;
    attach("conv2d", &[x], output, move |call| Ok(vec![Some(input_gradient(&call.gradient, &weight, &shape)?)]))
}

/// Convolves `x` `[b, c_in, h, w]` with `weight` `[c_out, c_in, kh, kw]`, which may be a variable: both get gradients.
///
/// On a CPU both are float32. Errors as [`conv2d`].
pub fn conv2d_trainable(x: &Tensor, weight: &Tensor, stride: usize, padding: Padding) -> Result<Tensor> {
    let shape = Shape::new("conv2d_trainable", x, weight, None, stride, padding)?;
    let output =
        forward(&host::activation("conv2d_trainable", x)?, &host::activation("conv2d_trainable", weight)?, None, &shape)?;
    attach("conv2d_trainable", &[x, weight], output, move |call| {
        let (x, weight) = (call.inputs[0].contiguous()?, call.inputs[1].contiguous()?);
        let to_x = call.tracked[0].then(|| input_gradient(&call.gradient, &weight, &shape)).transpose()?;
        let to_weight = call.tracked[1].then(|| weight_gradient(&x, &call.gradient, &shape)).transpose()?;
        Ok(vec![to_x, to_weight])
    })
}

impl Activation {
    /// [`conv2d`]. The backward pass reads the weight alone.
    ///
    /// # Errors
    /// As [`conv2d`].
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, stride: usize, padding: Padding) -> Result<Self> {
        conv2d(self.read(), weight, bias, stride, padding).map(Self::new)
    }
}

/// The most pixels of a padded image: so many, with a few channels, that no memory holds them, and so few that no product of sizes wraps.
const MOST_PIXELS: usize = 1 << 40;

/// All sizes of one convolution, checked.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub batch: usize,
    pub out_channels: usize,
    pub padding: Padding,
    pub sizes: Geometry,
}

impl Shape {
    pub fn new(
        name: &'static str,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        stride: usize,
        padding: Padding,
    ) -> Result<Self> {
        let ([batch, channels, height, width], [out_channels, in_channels, kernel_height, kernel_width]) =
            (x.dims(), weight.dims())
        else {
            let expected = "an image [b, c, h, w] and a kernel [o, c, h, w]";
            return Err(Misfit::Ranks { expected, found: [x.dims().to_vec(), weight.dims().to_vec()] }.of(name));
        };
        if channels != in_channels {
            return Err(Misfit::Channels { weight: "kernel", expected: *in_channels, found: *channels }.of(name));
        }
        if let Some(bias) = bias.filter(|bias| bias.dims() != [*out_channels]) {
            return Err(Misfit::Bias { expected: *out_channels, found: bias.dims().to_vec() }.of(name));
        }
        let padded = |size: &usize, before, behind| size.saturating_add(before).saturating_add(behind);
        let (padded_height, padded_width) =
            (padded(height, padding.top, padding.bottom), padded(width, padding.left, padding.right));
        if stride == 0
            || *kernel_height == 0
            || *kernel_width == 0
            || padded_height < *kernel_height
            || padded_width < *kernel_width
            || padded_height.checked_mul(padded_width).is_none_or(|pixels| pixels > MOST_PIXELS)
        {
            let (kernel, padded) = ((*kernel_height, *kernel_width), (padded_height, padded_width));
            return Err(Misfit::Kernel { kernel, stride, padded }.of(name));
        }
        let sizes = Geometry {
            channels: *channels,
            height: *height,
            width: *width,
            kernel_height: *kernel_height,
            kernel_width: *kernel_width,
            top: padding.top as isize,
            left: padding.left as isize,
            stride,
            out_height: (padded_height - kernel_height) / stride + 1,
            out_width: (padded_width - kernel_width) / stride + 1,
        };
        Ok(Self { batch: *batch, out_channels: *out_channels, padding, sizes })
    }

    fn filters<'a>(&self, weight: &'a host::Kept) -> Filters<'a> {
        let taps = self.sizes.kernel_height * self.sizes.kernel_width;
        Filters::new(weight.numbers(), self.out_channels, self.sizes.channels, taps)
    }
}

fn forward(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, shape: &Shape) -> Result<Output> {
    if !x.device().is_cpu() {
        return Ok(composed::conv2d(x, weight, bias, shape)?.into());
    }
    let (x, weight, bias) = (host::read(x)?, host::keep(weight)?, host::read_optional(bias)?);
    let out = kernel::forward(&x, shape.filters(&weight), bias.as_deref(), shape.batch, &shape.sizes);
    Ok(Output::host(out, (shape.batch, shape.out_channels, shape.sizes.out_height, shape.sizes.out_width)))
}

fn input_gradient(gradient: &Tensor, weight: &Tensor, shape: &Shape) -> Result<Tensor> {
    if !gradient.device().is_cpu() {
        return composed::conv2d_input_gradient(gradient, weight, shape);
    }
    let sizes = &shape.sizes;
    let weight = host::keep(weight)?;
    let values = kernel::input_gradient(&host::read(gradient)?, shape.filters(&weight), shape.batch, sizes);
    Ok(Tensor::from_vec(values, (shape.batch, sizes.channels, sizes.height, sizes.width), &Device::Cpu)?)
}

fn weight_gradient(x: &Tensor, gradient: &Tensor, shape: &Shape) -> Result<Tensor> {
    if !gradient.device().is_cpu() {
        return composed::conv2d_weight_gradient(x, gradient, shape);
    }
    let sizes = &shape.sizes;
    let values = kernel::weight_gradient(&host::read(x)?, &host::read(gradient)?, shape.batch, shape.out_channels, sizes);
    let dimensions = (shape.out_channels, sizes.channels, sizes.kernel_height, sizes.kernel_width);
    Ok(Tensor::from_vec(values, dimensions, &Device::Cpu)?)
}
