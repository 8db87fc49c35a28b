//! What happens to log files, other than their rotation.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libtest_mimic::Trial;
use tempfile::TempDir;
use wedr_plugin_sdk::testing::{Script, TestAgent};

use crate::common::process::Plugin;
use crate::common::trials::trials;
use crate::processes::Writer;
use crate::scene::{Scene, command, has_started, start, texts};
use crate::wrapped::{pid, run, through_shell, without_privileges, wrapped};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        new_log_becomes_readable_later,
        unreadable_log_at_the_start_is_waited_for,
        folder_loses_its_permission_for_a_while,
        log_is_replaced_by_a_link_for_a_while,
        unrelated_names_are_not_rotated_files,
        followed_file_may_get_any_name,
        hundreds_of_rotated_files_fit_few_descriptors,
        grown_old_file_is_opened_again,
        #[cfg(target_os = "linux")]
        descriptor_shortage_is_reported_and_survived,
        #[cfg(target_os = "linux")]
        exhausted_inotify_limits_are_reported_and_survived,
        truncated_log_grows_past_its_old_length,
        holes_are_not_forwarded,
        byte_order_mark_is_not_forwarded,
        old_lines_get_the_year_of_their_file,
        hard_link_to_another_folder_is_followed,
        swapped_link_above_the_log_is_followed,
    ]
}

/// The options of the plugin in these tests.
const FROM_START: &[&str] = &["--from-start"];

fn unprivileged() -> Scene {
    let folder = TempDir::new().unwrap();
    let above = folder.path().to_owned();
    Scene::with(folder, Script::new(), |agent, path| {
        without_privileges(command(agent, FROM_START, path), agent, &above)
    })
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn new_log_becomes_readable_later() {
    let mut scene = unprivileged();
    scene.writer.does(&["lines 10"]);
    scene.wait_for(10);
    scene.writer.does(&["shift", "lines 10"]);
    File::options().write(true).create_new(true).mode(0o200).open(&scene.path).unwrap();
    // The old file gets more lines while the new one is not readable.
    scene.writer.does(&["lines 10"]);
    scene.wait_for(30);
    scene.wait_for_error(&["cannot open", "app.log: allow the plugin's user", "denied"]);
    scene.writer.does(&["open", "lines 10"]);
    set_mode(&scene.path, 0o644);
    scene.expect_numbered(40);
}

fn unreadable_log_at_the_start_is_waited_for() {
    let agent = TestAgent::start().unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.log");
    fs::write(&path, "before the start\nbegun bef").unwrap();
    set_mode(&path, 0o200);
    let mut command = without_privileges(command(&agent, &[], &path), &agent, folder.path());
    let mut plugin = Plugin::spawn(&mut command);
    // The plugin prints this after its first scan: it must forward all lines that are written from now on.
    plugin.says("cannot open");
    File::options().append(true).open(&path).unwrap().write_all(b"ore\nafter\n").unwrap();
    set_mode(&path, 0o644);
    let is_start = |s: &[wedr_plugin_sdk::testing::RecordedSession]| {
        s[0].events().any(|event| event.kind == "log_start" && event.payload["position"] == 17)
    };
    assert!(
        agent.wait_until(crate::common::process::PROCESS_LIMIT, is_start),
        "{:?}",
        agent.sessions()
    );
    let writer = Writer::start(&path);
    let scene = Scene { agent, plugin, writer, path, folder };
    assert_eq!(texts(&scene.lines(2)), ["begun before", "after"]);
}

fn folder_loses_its_permission_for_a_while() {
    let mut scene = unprivileged();
    scene.writer.does(&["lines 10"]);
    scene.wait_for(10);
    set_mode(scene.folder(), 0o311);
    scene.writer.does(&["lines 10"]);
    scene.wait_for(20);
    scene.writer.does(&["lines 10", "shift", "lines 10", "open", "lines 10"]);
    scene.wait_for_error(&["cannot list", "allow the plugin's user", "denied"]);
    set_mode(scene.folder(), 0o755);
    scene.expect_numbered(50);
}

fn log_is_replaced_by_a_link_for_a_while() {
    let mut scene = Scene::new();
    scene.writer.does(&["lines 10", "shift"]);
    let secret = scene.folder().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    symlink(&secret, &scene.path).unwrap();
    scene.writer.does(&["lines 10"]);
    scene.wait_for(20);
    scene.wait_for_error(&["app.log: it must be a regular file, not a link"]);
    fs::remove_file(&scene.path).unwrap();
    scene.writer.does(&["open", "lines 10"]);
    scene.expect_numbered(30);
}

fn unrelated_names_are_not_rotated_files() {
    let mut scene = Scene::new();
    scene.writer.does(&["lines 10"]);
    scene.wait_for(10);
    scene.plugin.stop();
    scene.writer.does(&["shift", "lines 10"]);
    let unrelated = [
        "app.log.err",
        "app.log.pid",
        "app.log-errors",
        "app.log.1.gz",
        "app.log.swp",
        "app.log.1~",
    ];
    for name in unrelated {
        fs::write(scene.folder().join(name), format!("a line of {name}\n")).unwrap();
    }
    scene.writer.does(&["open", "lines 10"]);
    scene.plugin.resume();
    scene.wait_for(30);
    // These files are not the log's, also while the log's name does not exist.
    scene.writer.does(&["shift"]);
    for name in unrelated {
        fs::write(scene.folder().join(name), format!("another line of {name}\n")).unwrap();
    }
    scene.writer.does(&["lines 10", "open", "lines 10"]);
    scene.expect_numbered(50);
}

/// The log gets a name that no rotation gives. Its writer still writes to it, so the plugin still follows it.
fn followed_file_may_get_any_name() {
    let mut scene = Scene::new();
    scene.writer.does(&["lines 10"]);
    scene.wait_for(10);
    fs::rename(&scene.path, scene.folder().join("app.log.backup")).unwrap();
    fs::write(&scene.path, "").unwrap();
    let mut new = File::options().append(true).open(&scene.path).unwrap();
    new.write_all(b"new\n").unwrap();
    scene.wait_for(11);
    scene.writer.does(&["lines 10"]);
    scene.wait_for(21);
    let lines = scene.lines(21);
    assert_eq!(texts(&lines)[10], "new");
    assert!(texts(&lines)[11..].iter().all(|text| text.starts_with("00001")), "{lines:?}");
}

fn hundreds_of_rotated_files_fit_few_descriptors() {
    let folder = TempDir::new().unwrap();
    for age in 1..=700 {
        fs::write(folder.path().join(format!("app.log.{age}")), "from before the start\n").unwrap();
    }
    let file = folder.path().join("pid");
    let mut scene = Scene::with(folder, Script::new(), |agent, path| {
        through_shell(&command(agent, FROM_START, path), &file, "ulimit -n 64 &&")
    });
    scene.writer.does(&["lines 10"]);
    scene.wait_for(10);
    scene.plugin.stop();
    // As many rotations between two scans.
    for second in 100..300 {
        let name = format!("app.log-20260101-{second}");
        fs::rename(&scene.path, scene.folder().join(name)).unwrap();
        scene.writer.does(&["open", "lines 1"]);
    }
    scene.plugin.resume();
    scene.wait_for(210);
    scene.writer.does(&["shift", "open", "lines 10"]);
    scene.expect_numbered(220);
}

fn grown_old_file_is_opened_again() {
    let mut scene = Scene::new();
    scene.writer.does(&["lines 1"]);
    for second in 100..150 {
        let name = format!("app.log-20260101-{second}");
        fs::rename(&scene.path, scene.folder().join(name)).unwrap();
        scene.writer.does(&["open", "lines 1"]);
    }
    scene.wait_for(51);
    let old = scene.folder().join("app.log-20260101-100");
    File::options().append(true).open(old).unwrap().write_all(b"late\n").unwrap();
    let lines = scene.lines(52);
    assert_eq!((lines.len(), texts(&lines)[51]), (52, "late"));
}

#[cfg(target_os = "linux")]
fn descriptor_shortage_is_reported_and_survived() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("pid");
    let mut scene = Scene::with(folder, Script::new(), |agent, path| {
        through_shell(&command(agent, FROM_START, path), &file, "")
    });
    scene.writer.does(&["lines 10"]);
    scene.wait_for(10);
    let pid = pid(&file);
    // The plugin may open no further file.
    run(&["prlimit", "--pid", &pid, "--nofile=3:4096"]);
    scene.writer.does(&["lines 10", "shift", "lines 10", "open", "lines 10"]);
    scene.wait_for_error(&["raise the limit of open files"]);
    scene.wait_for(30);
    run(&["prlimit", "--pid", &pid, "--nofile=1024:4096"]);
    scene.expect_numbered(40);
}

#[cfg(target_os = "linux")]
fn exhausted_inotify_limits_are_reported_and_survived() {
    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        let folder = TempDir::new().unwrap();
        let mut scene = Scene::with(folder, Script::new(), |agent, path| {
            // A user namespace has its own limits.
            let script = format!("echo 0 >/proc/sys/user/{limit} && exec \"$@\"");
            let shell = ["unshare", "--user", "--map-root-user", "sh", "-c", &script, "sh"];
            wrapped(&command(agent, FROM_START, path), &shell)
        });
        let remedy = limit.replace("max_inotify_", "raise fs.inotify.max_user_");
        scene.wait_for_error(&["cannot watch", &remedy, "once a second"]);
        scene.writer.does(&["lines 10", "shift", "lines 10", "open", "lines 10"]);
        scene.expect_numbered(30);
    }
}

fn truncated_log_grows_past_its_old_length() {
    let mut scene = Scene::new();
    scene.writer.does(&["lines 10"]);
    scene.wait_for(10);
    scene.plugin.stop();
    scene.writer.does(&["copytruncate", "lines 100"]);
    scene.plugin.resume();
    scene.expect_numbered(110);
}

/// If a file is truncated and its writer keeps its own offset, the file begins with NUL bytes.
fn holes_are_not_forwarded() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("pid");
    let mut scene = Scene::with(folder, Script::new(), |agent, path| {
        through_shell(&command(agent, FROM_START, path), &file, "")
    });
    scene.writer.does(&["plain", "lines 10", "skip 100000000", "lines 10"]);
    scene.wait_for(20);
    for lines in [20, 30] {
        scene.writer.does(&["copytruncate"]);
        scene.writer.does(&["lines 10"]);
        scene.wait_for(lines + 10);
    }
    #[cfg(target_os = "linux")]
    {
        let status = fs::read_to_string(format!("/proc/{}/status", pid(&file))).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak < 50_000, "{peak} KiB: the hole is not kept in memory");
    }
    scene.expect_numbered(40);
}

fn byte_order_mark_is_not_forwarded() {
    let mut scene = Scene::new();
    scene.writer.writes("\u{feff}2026-01-02T03:04:05Z first\n\u{feff}second\n");
    scene.writer.does(&["shift", "open"]);
    scene.writer.writes("\u{feff}third\n");
    scene.wait_for(3);
    assert_eq!(scene.events()[1].ts_unix_ns, 1_767_323_045_000_000_000);
    let expected = ["2026-01-02T03:04:05Z first", "\u{feff}second", "third"];
    assert_eq!(texts(&scene.lines(3)), expected);
}

fn old_lines_get_the_year_of_their_file() {
    let agent = TestAgent::start().unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.log");
    fs::write(&path, "Nov 30 12:00:00 host app: text\n").unwrap();
    // 2021-01-10
    let written = UNIX_EPOCH + Duration::from_secs(1_610_236_800);
    File::options().append(true).open(&path).unwrap().set_modified(written).unwrap();
    let plugin = Plugin::spawn(command(&agent, FROM_START, &path).env("TZ", "UTC"));
    has_started(&agent, &path);
    assert!(agent.wait_for_events(2, crate::common::process::PROCESS_LIMIT), "the line comes");
    let at = agent.sessions()[0].events().nth(1).unwrap().ts_unix_ns;
    // 2020-11-30T12:00:00Z
    assert_eq!(at, 1_606_737_600_000_000_000);
    assert!(u128::from(at) < SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos());
    drop(plugin);
}

/// The system reports no change of the watched folder.
fn hard_link_to_another_folder_is_followed() {
    let elsewhere = TempDir::new().unwrap();
    let folder = TempDir::new_in(elsewhere.path()).unwrap();
    let path = folder.path().join("app.log");
    let written = elsewhere.path().join("written.log");
    let mut writer = Writer::start(&written);
    writer.does(&["lines 10"]);
    fs::hard_link(&written, &path).unwrap();
    let agent = TestAgent::start().unwrap();
    let plugin = start(&agent, FROM_START, &path);
    has_started(&agent, &path);
    let mut scene = Scene { agent, plugin, writer, path, folder };
    scene.wait_for(10);
    scene.writer.does(&["lines 10"]);
    scene.wait_for(20);
    scene.writer.does(&["lines 10"]);
    scene.expect_numbered(30);
}

fn swapped_link_above_the_log_is_followed() {
    let outer = TempDir::new().unwrap();
    let (current, next) = (outer.path().join("current"), outer.path().join("next"));
    let folder = TempDir::new_in(outer.path()).unwrap();
    symlink(folder.path(), &current).unwrap();
    let path = current.join("app.log");
    let mut writer = Writer::start(&path);
    writer.does(&["lines 10"]);
    let agent = TestAgent::start().unwrap();
    let plugin = start(&agent, FROM_START, &path);
    has_started(&agent, &path);
    let mut scene = Scene { agent, plugin, writer, path, folder };
    scene.wait_for(10);
    let other = TempDir::new_in(outer.path()).unwrap();
    for (round, target) in [other.path(), scene.folder.path(), other.path()].iter().enumerate() {
        symlink(target, &next).unwrap();
        if round == 1 {
            // The link does not exist for a moment.
            fs::remove_file(&current).unwrap();
        }
        fs::rename(&next, &current).unwrap();
        let _ = fs::remove_file(&scene.path);
        scene.writer.does(&["open", "lines 10"]);
        scene.wait_for(10 * (round + 2));
    }
    scene.expect_numbered(40);
}
