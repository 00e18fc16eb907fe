//! The machine's end by a person's word: what stands in the way ([`in_the_way`]), where the next start goes ([`into`](mod@into)), and
//! the word to PID 1 ([`pid1`]), which alone can end it in order.

pub mod in_the_way;
pub mod into;
pub mod pid1;
pub mod run;
