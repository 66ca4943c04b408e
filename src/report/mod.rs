//! What people look at: sample grids as PNG, curves as SVG, tables, and one self-contained `report.html`.

pub mod compare;
pub mod curves;
pub mod grid;
pub mod html;
pub mod op_times;
pub mod receptive_field;
pub mod run;
pub mod sequences;
pub mod text;
