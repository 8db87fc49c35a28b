//! Rotation and truncation: all lines arrive, in order.

#[cfg(unix)]
use std::fs;
#[cfg(unix)]
use std::io::Write;
#[cfg(unix)]
use std::time::Duration;
#[cfg(unix)]
use std::time::SystemTime;

use libtest_mimic::Trial;
use tempfile::TempDir;
use wedr_plugin_sdk::testing::Script;

use crate::common::trials::trials;
use crate::scene::Scene;
#[cfg(unix)]
use crate::scene::texts;
#[cfg(unix)]
use crate::writer::rotated;

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        rotation_while_the_plugin_reads_loses_nothing,
        #[cfg(unix)]
        rotations_while_the_plugin_is_stopped_lose_nothing,
        #[cfg(unix)]
        files_with_dates_in_their_names_are_read_in_order,
        #[cfg(unix)]
        removed_and_compressed_files_lose_nothing,
        #[cfg(unix)]
        file_without_a_name_is_followed,
        #[cfg(unix)]
        new_file_with_the_inode_of_an_old_file_is_read,
        stalled_agent_gets_all_lines_of_rotated_files,
        #[cfg(unix)]
        late_lines_of_a_rotated_file_are_read,
        #[cfg(target_os = "linux")]
        overflow_of_the_inotify_queue_loses_nothing,
        log_truncated_in_place_is_followed,
    ]
}

/// The plugin may be as fast as the writer, or slower.
fn rotation_while_the_plugin_reads_loses_nothing() {
    let mut scene = Scene::new();
    let mut count = 0;
    for _ in 0..8 {
        scene.writer.does(&["lines 400", "half", "shift", "lines 100", "half"]);
        scene.writer.does(&["lines 50", "open", "lines 200"]);
        // Several rotations at once; two files stay empty.
        scene.writer.does(&["storm 8", "shift", "open", "shift", "open"]);
        count += 400 + 1 + 100 + 1 + 50 + 200 + 16;
    }
    scene.expect_numbered(count);
}

/// The plugin is stopped during the rotations, so it never sees most files under the log's name.
#[cfg(unix)]
fn rotations_while_the_plugin_is_stopped_lose_nothing() {
    let mut scene = Scene::new();
    let mut count = 0;
    for rotations in [1, 2, 12, 3] {
        scene.writer.does(&["lines 100", "half"]);
        count += 101;
        scene.wait_for(count - 1);
        scene.plugin.stop();
        scene.writer.does(&["lines 10", "shift", "lines 20"]);
        count += 30;
        for _ in 1..rotations {
            scene.writer.does(&["open", "lines 5", "half", "shift", "lines 5"]);
            count += 11;
        }
        scene.writer.does(&["open", "lines 50"]);
        count += 50;
        scene.plugin.resume();
        scene.wait_for(count);
    }
    scene.expect_numbered(count);
}

/// The names have no numbers that would show which file is older.
#[cfg(unix)]
fn files_with_dates_in_their_names_are_read_in_order() {
    let mut scene = Scene::new();
    scene.plugin.stop();
    let mut written = SystemTime::now() - Duration::from_secs(3600);
    for date in ["-30-01-2026", "-31-01-2026", "-01-02-2026", ".old", ".02-02-2026"] {
        let renamed = format!("{}{date}", scene.path.display());
        scene.writer.does(&["lines 10"]);
        fs::rename(&scene.path, &renamed).unwrap();
        scene.writer.does(&["lines 10", "open"]);
        // The clock of a file system may be coarser than this loop.
        written += Duration::from_secs(60);
        fs::File::options().append(true).open(renamed).unwrap().set_modified(written).unwrap();
    }
    scene.plugin.resume();
    scene.expect_numbered(100);
}

/// Rotated files are removed, some before they are read and some while they are written.
#[cfg(unix)]
fn removed_and_compressed_files_lose_nothing() {
    let mut scene = Scene::new();
    scene.writer.does(&["lines 10", "shift", "open", "lines 10"]);
    let mut count = 20;
    for is_stopped in [true, false, true, false] {
        scene.wait_for(count);
        if is_stopped {
            scene.plugin.stop();
        }
        let old = rotated(&scene.path, 1);
        fs::write(format!("{}.gz", old.display()), "packed\n").unwrap();
        fs::remove_file(&old).unwrap();
        scene.writer.does(&["lines 10", "shift", "lines 10", "half"]);
        fs::remove_file(&old).unwrap();
        scene.writer.does(&["lines 10", "open", "lines 10", "shift", "open", "lines 10"]);
        count += 51;
        if is_stopped {
            scene.plugin.resume();
        }
    }
    scene.expect_numbered(count);
}

/// The writer still writes to the file.
#[cfg(unix)]
fn file_without_a_name_is_followed() {
    let mut scene = Scene::new();
    scene.writer.writes("1\n");
    scene.writer.does(&["shift", "open"]);
    scene.writer.writes("2\n");
    scene.wait_for(2);
    fs::remove_file(&scene.path).unwrap();
    let older = fs::File::options().append(true).open(rotated(&scene.path, 1));
    older.unwrap().write_all(b"3\n").unwrap();
    // Now the plugin has seen that the name does not exist.
    scene.wait_for(3);
    scene.writer.writes("4\n");
    scene.writer.does(&["open"]);
    scene.writer.writes("5\n");
    assert_eq!(texts(&scene.lines(5)), ["1", "2", "3", "4", "5"]);
}

/// The inode number of an old file, which the plugin has not opened, must not be given to a new one.
#[cfg(unix)]
fn new_file_with_the_inode_of_an_old_file_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.log");
    fs::write(rotated(&path, 1), "from before the start\n").unwrap();
    let mut scene = Scene::in_folder(folder, Script::new());
    scene.plugin.stop();
    fs::remove_file(rotated(&path, 1)).unwrap();
    scene.writer.does(&["lines 10", "shift", "open", "lines 10", "shift", "open", "lines 10"]);
    scene.plugin.resume();
    scene.expect_numbered(30);
}

/// Meanwhile the watcher's callback is blocked in `emit`.
fn stalled_agent_gets_all_lines_of_rotated_files() {
    let script = Script::new().stop_reading_after(100);
    let mut scene = Scene::in_folder(TempDir::new().unwrap(), script);
    for _ in 0..5 {
        scene.writer.does(&["lines 3000", "shift", "lines 1000", "open"]);
    }
    scene.agent.resume();
    scene.expect_numbered(20_000);
}

/// The new file exists while the old one is still read and written.
#[cfg(unix)]
fn late_lines_of_a_rotated_file_are_read() {
    let script = Script::new().stop_reading_after(100);
    let mut scene = Scene::in_folder(TempDir::new().unwrap(), script);
    scene.plugin.stop();
    scene.writer.does(&["shift"]);
    fs::File::create(&scene.path).unwrap();
    // More than fits into the plugin's queue and the pipe.
    scene.writer.does(&["lines 20000"]);
    scene.plugin.resume();
    scene.wait_for_events(100);
    scene.writer.does(&["lines 100", "open", "lines 100"]);
    scene.agent.resume();
    scene.expect_numbered(20_200);
}

/// The kernel's queue for the watcher overflows, so the plugin must scan the folder again.
#[cfg(target_os = "linux")]
fn overflow_of_the_inotify_queue_loses_nothing() {
    let mut scene = Scene::new();
    scene.plugin.stop();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    for number in 0..limit.trim().parse::<usize>().unwrap() {
        // Each is at least one event. The kernel joins only equal events that follow one another.
        fs::write(scene.folder().join(format!("other{}", number % 2)), "").unwrap();
    }
    scene.writer.does(&["lines 10", "shift", "lines 10", "open", "lines 10", "shift", "open"]);
    scene.writer.does(&["lines 10"]);
    scene.plugin.resume();
    scene.wait_for(40);
    scene.writer.does(&["lines 10"]);
    scene.expect_numbered(50);
}

fn log_truncated_in_place_is_followed() {
    let mut scene = Scene::new();
    let mut count = 0;
    for lines in [1000, 700, 10, 400] {
        scene.writer.does(&[&format!("lines {lines}")]);
        count += lines;
        // Lines that are truncated before the plugin has read them are lost.
        scene.wait_for(count);
        scene.writer.does(&["copytruncate", "lines 5"]);
        count += 5;
        scene.wait_for(count);
    }
    scene.expect_numbered(count);
}
