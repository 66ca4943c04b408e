//! Training: the loop, the images that it takes, the loss on validation images, and weights on their way
//! from and to the files of others.

pub mod exchange;
pub(crate) mod images;
pub mod run;
pub(crate) mod start;
pub mod trainer;
mod validation;
