//! `metadata!` and `Metadata::from_env`. The environment belongs to the whole process, so every
//! case has a process of its own: this test binary again, or a program that is compiled here.

mod common;

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Output};

use common::watched;
use wedr_plugin_sdk::{Error, Metadata, Result, metadata};

/// The variable in which the agent passes the plugin's id.
const ID: &str = "WEDR_PLUGIN_ID";
/// Set in a child process. The test then checks its environment instead of starting a child.
const IN_CHILD: &str = "WEDR_TEST_CHILD";

/// Runs the test `name` in a child with this plugin id.
fn run_in_child(name: &str, id: Option<&OsStr>) {
    watched({
        let (name, id) = (name.to_owned(), id.map(OsStr::to_owned));
        move || {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", &name, "--nocapture"]).env(IN_CHILD, "1").env_remove(ID);
            if let Some(id) = id {
                command.env(ID, id);
            }
            let output = command.output().unwrap();
            assert!(stdout(&output).contains("1 passed"), "{}", all(&output));
        }
    });
}

fn is_child() -> bool {
    env::var_os(IN_CHILD).is_some()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn all(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{}\n{}\n{stderr}", output.status, stdout(output))
}

fn fields(metadata: &Metadata) -> [&str; 3] {
    [&metadata.plugin_id, &metadata.plugin_version, &metadata.plugin_name]
}

fn assert_missing(result: Result<Metadata>) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::MissingPluginId), "{error:?}");
    assert!(error.is_permanent());
    assert!(error.to_string().contains(ID), "{error}");
    assert_eq!(format!("{error:?}"), error.to_string());
}

#[test]
fn id_that_is_not_set_is_missing() {
    if !is_child() {
        return run_in_child("id_that_is_not_set_is_missing", None);
    }
    assert_missing(Metadata::from_env("acme", "1.0"));
    assert_missing(metadata!("acme"));
}

#[test]
fn empty_id_is_missing() {
    if !is_child() {
        return run_in_child("empty_id_is_missing", Some("".as_ref()));
    }
    assert_missing(Metadata::from_env("acme", "1.0"));
    assert_missing(metadata!("acme"));
}

#[test]
fn id_is_taken_unchanged() {
    let id = " 8f0c é\n";
    if !is_child() {
        return run_in_child("id_is_taken_unchanged", Some(id.as_ref()));
    }
    let metadata = Metadata::from_env("acme", "1.0").unwrap();
    assert_eq!(fields(&metadata), [id, "1.0", "acme"]);
}

#[test]
#[cfg(unix)]
fn id_that_is_not_utf8_is_a_bad_configuration() {
    use std::os::unix::ffi::OsStrExt;
    if !is_child() {
        let id = OsStr::from_bytes(b"a\xff\x1b[2J");
        return run_in_child("id_that_is_not_utf8_is_a_bad_configuration", Some(id));
    }
    let error = metadata!("acme").unwrap_err();
    assert!(matches!(error, Error::InvalidConfig(_)), "{error:?}");
    assert!(error.is_permanent());
    let message = error.to_string();
    assert!(message.contains(ID), "{message}");
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

const NAME: &str = "acme";

/// A caller's items with the names that the macro uses. The macro must not use these items.
mod with_names_of_its_own {
    #![allow(dead_code, unused_macros, reason = "a wrong macro would use them")]

    pub(crate) mod core {}
    pub(crate) mod std {}
    pub(crate) mod wedr_plugin_sdk {}
    pub(crate) struct Metadata;
    pub(crate) struct Result;
    pub(crate) struct Error;
    macro_rules! env {
        ($($any:tt)*) => {
            compile_error!("the caller's env!")
        };
    }
    macro_rules! concat {
        ($($any:tt)*) => {
            compile_error!("the caller's concat!")
        };
    }

    pub(crate) fn metadata() -> crate::Result<crate::Metadata> {
        ::wedr_plugin_sdk::metadata!("acme")
    }
}

#[test]
fn macro_accepts_any_form_of_a_name() {
    if !is_child() {
        let name = "macro_accepts_any_form_of_a_name";
        return run_in_child(name, Some("8f0c".as_ref()));
    }
    let owned = String::from(NAME);
    let version = env!("CARGO_PKG_VERSION");
    for metadata in [
        metadata!("acme"),
        metadata!("acme",),
        metadata!(NAME),
        metadata!(&owned),
        metadata!(if owned.is_empty() { "no name" } else { &owned }),
        with_names_of_its_own::metadata(),
    ] {
        assert_eq!(fields(&metadata.unwrap()), ["8f0c", version, NAME]);
    }
    let propagated = || -> Result<()> {
        assert_eq!(metadata!("acme")?.plugin_name, NAME);
        Ok(())
    };
    propagated().unwrap();
}

/// Programs of another package than this one.
#[cfg(unix)]
mod elsewhere {
    use super::common::rustc::compile;
    use super::*;

    #[test]
    fn version_is_that_of_the_calling_package() {
        let main = r#"
            fn main() {
                let meta = wedr_plugin_sdk::metadata!("acme-tick").unwrap();
                print!("{}|{}|{}", meta.plugin_id, meta.plugin_version, meta.plugin_name);
            }
        "#;
        watched(move || {
            let folder = tempfile::tempdir().unwrap();
            let (program, output) = compile(main, "9.8.7", folder.path());
            assert!(output.status.success(), "{}", all(&output));
            let output = Command::new(program).env(ID, "8f0c").output().unwrap();
            assert_eq!(stdout(&output), "8f0c|9.8.7|acme-tick", "{}", all(&output));
        });
    }

    #[test]
    fn macro_with_bad_arguments_does_not_compile() {
        watched(|| {
            let folder = tempfile::tempdir().unwrap();
            for (arguments, says) in [
                ("", "unexpected end of macro invocation"),
                (r#""acme", "1.0""#, "no rules expected"),
                ("7", "mismatched types"),
            ] {
                let main = format!("fn main() {{ wedr_plugin_sdk::metadata!({arguments}); }}");
                let (_, output) = compile(&main, "9.8.7", folder.path());
                assert!(!output.status.success(), "metadata!({arguments}) compiles");
                assert!(all(&output).contains(says), "{}", all(&output));
            }
        });
    }
}
