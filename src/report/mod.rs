//! Reports for people: charts as SVG, tables, and one self-contained `report.html`.
//!
//! [`mod@compare`] ranks likelihoods, [`text`] formats tables for the terminal, [`curves`] draws charts,
//! [`op_times`] sums times by operation, [`html`] writes a page, and [`run`] makes the page of a training
//! run.

pub mod compare;
pub mod curves;
pub mod html;
pub mod op_times;
pub mod run;
pub mod text;
