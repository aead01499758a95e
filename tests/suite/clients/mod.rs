//! Client libraries against the broker: each reads what every other wrote, and groups work in all of them.

mod groups;
mod kcat;
mod matrix;
