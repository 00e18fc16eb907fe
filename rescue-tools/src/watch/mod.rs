//! What `rescue watch` shows: [`sample`] looks at the machine, [`rates`] compares two looks, [`screen`] lays one screen
//! out, [`line`](mod@line) and [`json`](mod@json) say the same in one line.

pub mod json;
pub mod line;
pub mod rates;
pub mod sample;
pub mod screen;
pub mod terminal;
