//! `whimbreld`: the Whimbrel server.
fn main() {}
