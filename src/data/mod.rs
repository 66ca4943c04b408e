//! Image data sets: the parsers of every format, binarisation, batches, and fetching from the publishers.
//!
//! [`open`] turns a name (`mnist`, `glyphs`, ...) or a path into [`Images`], all of them in memory as bytes (a time series is
//! an image too: a row is an observation);
//! [`Batches`] deals them out in an order that depends on nothing but the seed and the epoch, and [`Loader`]
//! prepares the same batches in a thread of its own. Read `images`, `open`, `batches` in this order; a format
//! has a file each (`idx`, `cifar`, `amat`, `folder`), and all of them read through `source`, which decompresses
//! and never trusts a header.

mod amat;
mod batches;
mod binarize;
mod cifar;
mod draws;
#[cfg(feature = "cli")]
mod fetch;
mod folder;
mod glyphs;
mod idx;
mod images;
mod loader;
mod open;
mod reduction;
mod series;
mod sets;
mod source;

pub use amat::read_amat;
pub use batches::{Batch, BatchFeeds, BatchOptions, Batches, Cursor, Order, Range};
pub use binarize::Binarize;
pub use cifar::read_cifar;
#[cfg(feature = "cli")]
pub use fetch::{Fetched, OnProgress, Progress, fetch};
pub use folder::decode_image;
pub use idx::{IdxImages, read_idx_images, read_idx_labels};
pub use images::{Images, Levels, Split};
pub use loader::{BatchSource, Loader};
pub use open::{data_dir, open};
pub use reduction::Reduction;
pub use series::{Pendulum, held_torques};
pub use sets::{Counts, Drawn, Layout, SETS, Served, Set, SetFile};
pub use source::Source;
