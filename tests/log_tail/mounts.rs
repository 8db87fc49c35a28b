//! The log's file system is mounted, in a mount namespace of the plugin.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Trial;
use tempfile::TempDir;
use wedr_plugin_sdk::testing::TestAgent;

use crate::common::process::Plugin;
use crate::common::trials::trials;
use crate::processes::Writer;
use crate::scene::{Scene, command, has_started};
use crate::wrapped::{pid, run, through_shell, wrapped};

pub(crate) fn trials() -> Vec<Trial> {
    trials![bind_mounted_log_is_followed, file_system_that_is_mounted_again_is_followed]
}

/// A command that may create a mount namespace on this machine. A container may forbid both ways.
fn unshare() -> Option<&'static [&'static str]> {
    const WAYS: [&[&str]; 2] = [
        &["unshare", "--mount", "--propagation", "private"],
        &["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"],
    ];
    let works = |way: &&&[&str]| {
        let script = "mount --bind / /mnt || mount -t tmpfs none /mnt";
        let shell = Command::new(way[0]).args(&way[1..]).args(["sh", "-c", script]).output();
        shell.is_ok_and(|output| output.status.success())
    };
    let way = WAYS.iter().find(works).copied();
    if way.is_none() {
        eprintln!("NOT TESTED: what log_tail does with mounts; this machine permits no mounts");
    }
    way
}

/// A log in a folder of the plugin's namespace. The writer writes to the file `written`.
struct Mounts {
    folder: TempDir,
    written: PathBuf,
    pid: PathBuf,
}

impl Mounts {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["mounted", "real", "real2"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let (written, pid) = (folder.path().join("real/app.log"), folder.path().join("pid"));
        Self { folder, written, pid }
    }

    fn start(self, unshare: &[&str], prepare: &str) -> (Scene, PathBuf) {
        let agent = TestAgent::start().unwrap();
        let path = self.folder.path().join("mounted/app.log");
        let mut writer = Writer::start(&self.written);
        writer.does(&["lines 10"]);
        let prepare = format!("cd '{}' && {prepare} &&", self.folder.path().display());
        let shell = through_shell(&command(&agent, &["--from-start"], &path), &self.pid, &prepare);
        let plugin = Plugin::spawn(&mut wrapped(&shell, unshare));
        has_started(&agent, &path);
        (Scene { agent, plugin, writer, path, folder: self.folder }, self.pid)
    }
}

/// Mounts a single file, as Docker does. The system reports no change of the folder.
fn bind_mounted_log_is_followed() {
    let Some(unshare) = unshare() else { return };
    let (mut scene, _) = Mounts::new()
        .start(unshare, "touch mounted/app.log && mount --bind real/app.log mounted/app.log");
    scene.wait_for(10);
    for count in [20, 30] {
        scene.writer.does(&["lines 10"]);
        scene.wait_for(count);
    }
    scene.expect_numbered(30);
}

fn file_system_that_is_mounted_again_is_followed() {
    let Some(unshare) = unshare() else { return };
    let mounts = Mounts::new();
    let (mut scene, pid_file) = mounts.start(unshare, "mount --bind real mounted");
    scene.wait_for(10);
    let pid = pid(&pid_file);
    let above = scene.folder.path().display().to_string();
    let in_namespace = |script: &str| {
        let mut command = vec!["nsenter", "--target", &pid, "--mount"];
        if unshare.contains(&"--user") {
            command.extend(["--user", "--preserve-credentials"]);
        }
        let script = format!("cd '{above}' && {script}");
        command.extend(["sh", "-c", &script]);
        run(&command);
    };
    // The same file system is mounted again.
    in_namespace("umount --lazy mounted && mount --bind real mounted");
    scene.writer.does(&["lines 10"]);
    scene.wait_for(20);
    // Another file system, with a new log.
    in_namespace("umount --lazy mounted && mount -t tmpfs none mounted");
    scene.writer.does(&["lines 10"]);
    scene.wait_for(30);
    in_namespace("mount --bind real2 mounted");
    fs::write(scene.folder.path().join("real2/app.log"), "").unwrap();
    fs::remove_file(scene.folder.path().join("real/app.log")).unwrap();
    fs::remove_dir(scene.folder.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real2", scene.folder.path().join("real")).unwrap();
    scene.writer.does(&["open", "lines 10"]);
    scene.expect_numbered(40);
}
