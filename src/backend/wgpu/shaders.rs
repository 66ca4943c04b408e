//! The shader files, embedded in the binary. The text of a shader is the code that all families share, then
//! the code that its family shares, then its own file.

/// A file of `shaders/`, which holds one kernel family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shader {
    /// Elementwise kernels.
    Elementwise,
    /// Pad, slice, gather, scatter.
    ShapeOps,
    /// Sums and expansions.
    Reduce,
    /// Matrix products.
    Matmul,
    /// Convolutions.
    Conv,
    /// Gradients of the inputs of convolutions; transposed convolutions.
    ConvDx,
    /// Gradients of the weights of convolutions.
    ConvDw,
    /// Batch, layer and group normalisation.
    Norm,
    /// Losses.
    Loss,
    /// LSTM cells and sequences.
    Lstm,
    /// LSTMs that scan images.
    Scan,
    /// Random draws.
    Random,
    /// Optimisers.
    Optim,
    /// Windowed sampling.
    Sample,
    /// Measurement of the device's peaks.
    Peak,
}

const COMMON: &str = include_str!("../../../shaders/common.wgsl");
/// The elementwise functions by their codes.
const FUNCTIONS: &str = include_str!("../../../shaders/functions.wgsl");
/// The codes of the ops that have windows, for [`Shader::Sample`].
const WINDOWS: &str = include_str!("../../../shaders/windows.wgsl");
/// The blocked product. Each of the four files that follow it defines how its operands are read.
const PRODUCT: &str = include_str!("../../../shaders/product.wgsl");

impl Shader {
    /// All files.
    pub const ALL: [Shader; 15] = [
        Shader::Elementwise,
        Shader::ShapeOps,
        Shader::Reduce,
        Shader::Matmul,
        Shader::Conv,
        Shader::ConvDx,
        Shader::ConvDw,
        Shader::Norm,
        Shader::Loss,
        Shader::Lstm,
        Shader::Scan,
        Shader::Random,
        Shader::Optim,
        Shader::Sample,
        Shader::Peak,
    ];

    /// Name of the file, without its extension.
    pub fn name(self) -> &'static str {
        match self {
            Shader::Elementwise => "elementwise",
            Shader::ShapeOps => "shape_ops",
            Shader::Reduce => "reduce",
            Shader::Matmul => "matmul",
            Shader::Conv => "conv",
            Shader::ConvDx => "conv_dx",
            Shader::ConvDw => "conv_dw",
            Shader::Norm => "norm",
            Shader::Loss => "loss",
            Shader::Lstm => "lstm",
            Shader::Scan => "scan",
            Shader::Random => "random",
            Shader::Optim => "optim",
            Shader::Sample => "sample",
            Shader::Peak => "peak",
        }
    }

    /// The whole WGSL text.
    pub fn source(self) -> String {
        let own = match self {
            Shader::Elementwise => include_str!("../../../shaders/elementwise.wgsl"),
            Shader::ShapeOps => include_str!("../../../shaders/shape_ops.wgsl"),
            Shader::Reduce => include_str!("../../../shaders/reduce.wgsl"),
            Shader::Matmul => include_str!("../../../shaders/matmul.wgsl"),
            Shader::Conv => include_str!("../../../shaders/conv.wgsl"),
            Shader::ConvDx => include_str!("../../../shaders/conv_dx.wgsl"),
            Shader::ConvDw => include_str!("../../../shaders/conv_dw.wgsl"),
            Shader::Norm => include_str!("../../../shaders/norm.wgsl"),
            Shader::Loss => include_str!("../../../shaders/loss.wgsl"),
            Shader::Lstm => include_str!("../../../shaders/lstm.wgsl"),
            Shader::Scan => include_str!("../../../shaders/scan.wgsl"),
            Shader::Random => include_str!("../../../shaders/random.wgsl"),
            Shader::Optim => include_str!("../../../shaders/optim.wgsl"),
            Shader::Sample => include_str!("../../../shaders/sample.wgsl"),
            Shader::Peak => include_str!("../../../shaders/peak.wgsl"),
        };
        let family = match self {
            Shader::Matmul | Shader::Conv | Shader::ConvDx | Shader::ConvDw => PRODUCT,
            Shader::Sample => WINDOWS,
            _ => "",
        };
        format!("{COMMON}\n{FUNCTIONS}\n{family}\n{own}")
    }
}
