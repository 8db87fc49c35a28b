//! Rotation by logrotate. These tests repeat the steps of logrotate 3.21, as `strace` shows them, so they
//! need only Rust. If `LOG_TAIL_TEST_LOGROTATE` is set, as in `.ci/run`, logrotate itself rotates too.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use tempfile::TempDir;
use wedr_plugin_sdk::testing::Script;

use crate::common::trials::trials;
use crate::scene::{Scene, command};
use crate::wrapped::without_privileges;
use crate::writer::rotated;

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = trials![steps_of_create, steps_of_copytruncate];
    if std::env::var_os("LOG_TAIL_TEST_LOGROTATE").is_some() {
        all.extend(trials![
            logrotate_create,
            logrotate_create_with_dates,
            logrotate_compress,
            logrotate_delaycompress,
            logrotate_copytruncate,
        ]);
    }
    all
}

const KEPT: usize = 3;

fn steps_of_create() {
    follow_rotations(|path| {
        rename_older(path, 0);
        let mut new = File::options();
        new.read(true).write(true).create_new(true).mode(0o600);
        let new = new.open(path).unwrap();
        new.set_permissions(Permissions::from_mode(0o600)).unwrap();
        new.set_permissions(Permissions::from_mode(0o644)).unwrap();
        let _ = fs::remove_file(rotated(path, KEPT + 1));
    });
}

fn steps_of_copytruncate() {
    follow_rotations(|path| {
        rename_older(path, 1);
        let mut log = File::options().read(true).write(true).open(path).unwrap();
        let mut copy = File::options();
        let mut copy =
            copy.write(true).create_new(true).mode(0o600).open(rotated(path, 1)).unwrap();
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes).unwrap();
        copy.write_all(&bytes).unwrap();
        copy.set_permissions(Permissions::from_mode(0o644)).unwrap();
        log.set_len(0).unwrap();
        let _ = fs::remove_file(rotated(path, KEPT + 1));
    });
}

fn rename_older(path: &Path, from: usize) {
    for age in (from..=KEPT).rev() {
        let _ = fs::rename(rotated(path, age), rotated(path, age + 1));
    }
}

fn logrotate_create() {
    follow_rotations(|path| logrotate(path, "create 0644"));
}

/// The date in the file's name has seconds, because logrotate does not rotate twice to the same name.
fn logrotate_create_with_dates() {
    let mut second = 0;
    follow_rotations(move |path| {
        second += 1;
        logrotate(path, &format!("create 0644\ndateext\ndateformat -%Y%m%d-{second:02}"));
    });
}

fn logrotate_compress() {
    follow_rotations(|path| logrotate(path, "create 0644\ncompress"));
}

fn logrotate_delaycompress() {
    follow_rotations(|path| logrotate(path, "create 0644\ncompress\ndelaycompress"));
}

fn logrotate_copytruncate() {
    follow_rotations(|path| logrotate(path, "copytruncate"));
}

fn logrotate(path: &Path, options: &str) {
    let configuration = path.with_file_name("logrotate.conf");
    let text =
        format!("{} {{\nsu root root\nrotate {KEPT}\nsize 1\n{options}\n}}\n", path.display());
    let text =
        if nix::unistd::geteuid().is_root() { text } else { text.replace("su root root\n", "") };
    fs::write(&configuration, text).unwrap();
    set_mode(&configuration, 0o644);
    let state = path.with_file_name("logrotate.state");
    let mut logrotate = Command::new("logrotate");
    logrotate.arg("--force").arg("--state").arg(state).arg(configuration);
    let output =
        logrotate.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").output().unwrap_or_else(|e| {
            panic!(
                "logrotate: {e}: install it (apt-get install logrotate), or unset \
                LOG_TAIL_TEST_LOGROTATE"
            )
        });
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The plugin has no privileges, so the modes of the files apply to it.
fn follow_rotations(mut rotate: impl FnMut(&Path)) {
    let folder = TempDir::new().unwrap();
    let above = folder.path().to_owned();
    let mut scene = Scene::with(folder, Script::new(), |agent, path| {
        without_privileges(command(agent, &["--from-start"], path), agent, &above)
    });
    let mut count = 0;
    for _ in 0..2 * KEPT {
        scene.writer.does(&["lines 50"]);
        count += 50;
        // Lines that copytruncate removes before the plugin has read them are lost.
        scene.wait_for(count);
        rotate(&scene.path);
        scene.writer.does(&["lines 10", "open", "lines 50"]);
        count += 60;
        scene.wait_for(count);
    }
    scene.expect_numbered(count);
}
