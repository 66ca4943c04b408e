//! Reports for people: charts as SVG, tables, and one self-contained `report.html`.
//!
//! [`mod@compare`] ranks likelihoods, [`text`] formats tables for the terminal, [`curves`] and [`roofline`]
//! draw charts on the axes of `axis`, [`op_times`] sums times by operation, [`html`] writes a page,
//! [`run`] makes the page of a training run, and `summary` the tables and the page that compare runs.

mod axis;
pub mod compare;
pub mod curves;
pub mod html;
pub mod op_times;
pub mod roofline;
pub mod run;
pub(crate) mod summary;
pub mod text;
