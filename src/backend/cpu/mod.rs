//! The CPU backend.

pub mod epilogue;
