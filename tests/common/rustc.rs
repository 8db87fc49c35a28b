//! Programs that a test compiles. It does so with the library that it was itself built with, which
//! takes a compiler that works for the machine the test runs on.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

/// Compiles `main` as a program of some package of this version.
pub fn compile(main: &str, version: &str, folder: &Path) -> (PathBuf, Output) {
    let source = folder.join("main.rs");
    let program = folder.join("main");
    fs::write(&source, main).unwrap();
    let built = env::current_exe().unwrap();
    let libraries = built.parent().unwrap();
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "--crate-name", "elsewhere"])
        .arg("--extern")
        .arg(format!("wedr_plugin_sdk={}", newest_library(libraries).display()))
        .arg("-L")
        .arg(format!("dependency={}", libraries.display()))
        .arg("-o")
        .args([&program, &source])
        .env("CARGO_PKG_VERSION", version)
        .output()
        .expect("a Rust compiler");
    (program, output)
}

/// The SDK as it was built last: there may be others, with other features or out of date.
fn newest_library(folder: &Path) -> PathBuf {
    let built = |path: &PathBuf| -> SystemTime { path.metadata().unwrap().modified().unwrap() };
    let is_the_sdk = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libwedr_plugin_sdk-") && name.ends_with(".rlib")
    };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(is_the_sdk).max_by_key(built).expect("the library that this test uses")
}
