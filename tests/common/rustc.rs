//! Programs that a test compiles, with the same library that the test was built with. This needs a compiler
//! on the machine where the test runs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// Compiles `main` as the program of a package with this version.
pub fn compile(main: &str, version: &str, folder: &Path) -> (PathBuf, Output) {
    compile_with(&[], main, version, folder)
}

/// As [`compile`], with more options for the compiler.
pub fn compile_with(
    options: &[&str],
    main: &str,
    version: &str,
    folder: &Path,
) -> (PathBuf, Output) {
    let source = folder.join("main.rs");
    let program = folder.join("main");
    fs::write(&source, main).unwrap();
    let library = library();
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "--crate-name", "elsewhere"])
        .args(options)
        .arg("--extern")
        .arg(format!("wedr_plugin_sdk={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", library.parent().unwrap().display()))
        .arg("-o")
        .args([&program, &source])
        .env("CARGO_PKG_VERSION", version)
        .output()
        .expect("a Rust compiler");
    (program, output)
}

/// The SDK's library. Cargo builds it if it is out of date, and prints its path.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["test", "--locked", "--offline", "--no-run", "--message-format=json"])
            .args(["--test", "metadata"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo.output().expect("cargo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = output.stdout.split(|byte| *byte == b'\n');
        let messages = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        let mut libraries = messages.filter_map(|message| {
            let is_the_sdk = message["target"]["name"] == "wedr_plugin_sdk";
            let files = message["filenames"].as_array().filter(|_| is_the_sdk)?;
            let mut paths = files.iter().filter_map(Value::as_str).map(PathBuf::from);
            paths.find(|path| path.extension().is_some_and(|extension| extension == "rlib"))
        });
        libraries.next().expect("cargo names the library that the tests use")
    })
}
