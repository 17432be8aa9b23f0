//! Rust's standard library: strings, a map, the environment, a caught panic.
use std::collections::HashMap;

fn main() {
    let squares: HashMap<u32, u32> = (1..=9).map(|n| (n, n * n)).collect();
    println!("Hello from Rust: {} squares, 7 * 7 = {}", squares.len(), squares[&7]);
    // Its message would hold the thread's number.
    std::panic::set_hook(Box::new(|_| println!("a panic")));
    let caught = std::panic::catch_unwind(|| panic!("unwound")).is_err();
    println!("arguments: {}, caught: {caught}", std::env::args().count());
}
