//! The shader files, embedded; each is compiled with what all families share in front of it.

/// A file of `shaders/`: one kernel family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shader {
    /// Everything that treats elements alike.
    Elementwise,
    /// Pad, slice, gather, scatter.
    ShapeOps,
    /// Sums and expansions.
    Reduce,
    /// Matrix products and convolutions.
    Product,
    /// Batch and layer normalisation.
    Norm,
    /// Losses.
    Loss,
    /// LSTM cells and sequences.
    Lstm,
    /// LSTMs that scan images.
    Scan,
    /// Draws.
    Random,
    /// Optimisers.
    Optim,
}

const COMMON: &str = include_str!("../../../shaders/common.wgsl");

impl Shader {
    /// All files.
    pub const ALL: [Shader; 10] = [
        Shader::Elementwise,
        Shader::ShapeOps,
        Shader::Reduce,
        Shader::Product,
        Shader::Norm,
        Shader::Loss,
        Shader::Lstm,
        Shader::Scan,
        Shader::Random,
        Shader::Optim,
    ];

    /// Name of the file, without its extension.
    pub fn name(self) -> &'static str {
        match self {
            Shader::Elementwise => "elementwise",
            Shader::ShapeOps => "shape_ops",
            Shader::Reduce => "reduce",
            Shader::Product => "product",
            Shader::Norm => "norm",
            Shader::Loss => "loss",
            Shader::Lstm => "lstm",
            Shader::Scan => "scan",
            Shader::Random => "random",
            Shader::Optim => "optim",
        }
    }

    /// The whole WGSL text.
    pub fn source(self) -> String {
        let own = match self {
            Shader::Elementwise => include_str!("../../../shaders/elementwise.wgsl"),
            Shader::ShapeOps => include_str!("../../../shaders/shape_ops.wgsl"),
            Shader::Reduce => include_str!("../../../shaders/reduce.wgsl"),
            Shader::Product => include_str!("../../../shaders/product.wgsl"),
            Shader::Norm => include_str!("../../../shaders/norm.wgsl"),
            Shader::Loss => include_str!("../../../shaders/loss.wgsl"),
            Shader::Lstm => include_str!("../../../shaders/lstm.wgsl"),
            Shader::Scan => include_str!("../../../shaders/scan.wgsl"),
            Shader::Random => include_str!("../../../shaders/random.wgsl"),
            Shader::Optim => include_str!("../../../shaders/optim.wgsl"),
        };
        format!("{COMMON}\n{own}")
    }
}
