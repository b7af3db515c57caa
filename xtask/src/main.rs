//! The project's own commands: tests, packages the tests need, replay of recordings
fn main() {}
