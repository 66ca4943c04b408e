//! What people look at: curves as SVG, tables, and one self-contained `report.html`.

pub mod compare;
pub mod curves;
pub mod html;
pub mod op_times;
pub mod run;
pub mod text;
