//! Data sets: parsers for every format, binarisation, batches, and downloads from the publishers.
//!
//! [`open`] turns a name (`mnist`, `glyphs`, ...) or a path into [`Images`], which are held in memory as
//! bytes. A time series is an image, too: each row is one observation. [`Batches`] turns images into
//! batches in an order that depends only on the seed and the epoch. [`Loader`] prepares the same batches
//! in a background thread.
//!
//! Read `images`, `open` and `batches` in this order. `identity` says which images a result belongs to.
//! Each format has its own file (`idx`, `cifar`, `amat`, `folder`); `names` recognises them. Data files are
//! read through `source`, which decompresses files and trusts no header, and image files through `layout`,
//! `decode`, `png` and `jpeg`.

mod amat;
mod augment;
mod batches;
mod binarize;
mod cifar;
mod decode;
mod draws;
#[cfg(feature = "cli")]
mod fetch;
mod folder;
mod glyphs;
mod identity;
mod idx;
mod images;
mod jpeg;
mod layout;
mod loader;
mod names;
mod open;
mod png;
#[cfg(feature = "cli")]
mod prepare;
mod reduction;
mod series;
mod sets;
mod source;

#[doc(hidden)]
pub use amat::{AmatImages, read_amat};
pub use augment::Augment;
#[doc(hidden)]
pub use batches::BatchFeeds;
pub use batches::{Batch, BatchOptions, Batches, Cursor, Order, Range};
pub use binarize::Binarize;
#[doc(hidden)]
pub use cifar::{CifarImages, read_cifar};
#[doc(hidden)]
pub use decode::decode_image;
#[cfg(feature = "cli")]
pub(crate) use draws::Draws;
#[cfg(feature = "cli")]
pub use fetch::{Fetched, OnProgress, Progress, fetch};
#[doc(hidden)]
pub(crate) use identity::short;
#[doc(hidden)]
pub use identity::{Identity, publishers_sha256};
#[doc(hidden)]
pub use idx::{IdxImages, read_idx_images, read_idx_labels};
pub use images::{Images, Levels, Split};
pub use loader::{BatchSource, Loader};
#[cfg(feature = "cli")]
pub(crate) use open::open_all_of_folder;
pub use open::{data_dir, open};
#[cfg(feature = "cli")]
pub(crate) use prepare::{Colours, Prepared, prepare};
pub use reduction::Reduction;
#[doc(hidden)]
pub use series::Pendulum;
pub(crate) use series::held_torques;
#[doc(hidden)]
pub use sets::{Counts, Drawn, FileFormat, Served, SetFile};
pub use sets::{SETS, Set};
#[doc(hidden)]
pub use source::Source;
