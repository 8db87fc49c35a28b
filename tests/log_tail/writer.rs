//! The process that writes the log. It executes the command on each line of its standard input, and prints an
//! answer on its standard output.

use std::fs::{self, File};
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The environment variable that makes this binary the writer. Its value is the path of the log.
pub(crate) const FILE: &str = "LOG_TAIL_TEST_FILE";
/// The answer.
pub(crate) const DONE: &str = "done";

/// The line with this number.
pub(crate) fn line(number: usize) -> String {
    format!("{number:06} {}", "é€🦀x".repeat(1 + number % 23))
}

/// The log's name after `age` rotations.
pub(crate) fn rotated(path: &Path, age: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if age > 0 {
        name.push(format!(".{age}"));
    }
    name.into()
}

pub(crate) fn serve(path: PathBuf) -> ExitCode {
    let mut writer = Writer { file: open(&path), path, next: 0, rest: Vec::new(), dice: 1 };
    for command in io::stdin().lock().lines() {
        let command = command.unwrap();
        let (what, argument) = command.split_once(' ').unwrap_or((&command, ""));
        match what {
            "lines" => writer.lines(argument.parse().unwrap()),
            "half" => writer.half_a_line(),
            "hex" => writer.hex(argument),
            "shift" => writer.shift(0),
            "open" => writer.file = open(&writer.path),
            "storm" => writer.storm(argument.parse().unwrap()),
            "plain" => writer.file = open_plain(&writer.path),
            "skip" => writer.file.seek_relative(argument.parse().unwrap()).unwrap(),
            "truncate" => writer.file.set_len(0).unwrap(),
            "copytruncate" => writer.copy_and_truncate(),
            unknown => panic!("no such command: {unknown}"),
        }
        println!("{DONE}");
    }
    ExitCode::SUCCESS
}

struct Writer {
    path: PathBuf,
    file: File,
    /// The number of the next line.
    next: usize,
    /// The rest of an incomplete line.
    rest: Vec<u8>,
    dice: u64,
}

fn open(path: &Path) -> File {
    File::options().append(true).create(true).open(path).unwrap()
}

/// Writes at its own offset, without `O_APPEND`, as some programs do.
fn open_plain(path: &Path) -> File {
    let mut file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file
}

impl Writer {
    /// Completes the incomplete line, and writes so many more lines, in pieces that end anywhere in a line or
    /// a character.
    fn lines(&mut self, count: usize) {
        let mut bytes = std::mem::take(&mut self.rest);
        for _ in 0..count {
            bytes.extend(self.next_line());
        }
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            // Marsaglia's xorshift.
            self.dice ^= self.dice << 13;
            self.dice ^= self.dice >> 7;
            self.dice ^= self.dice << 17;
            let (piece, rest) = bytes.split_at(bytes.len().min(1 + (self.dice % 700) as usize));
            self.file.write_all(piece).unwrap();
            bytes = rest;
        }
    }

    /// Writes the beginning of a line, up to the middle of a character.
    fn half_a_line(&mut self) {
        let mut bytes = self.next_line();
        let crab = bytes.iter().rposition(|byte| *byte == "🦀".as_bytes()[0]).unwrap();
        self.rest = bytes.split_off(crab + 2);
        self.file.write_all(&bytes).unwrap();
    }

    fn next_line(&mut self) -> Vec<u8> {
        self.next += 1;
        format!("{}\n", line(self.next - 1)).into_bytes()
    }

    fn hex(&mut self, digits: &str) {
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let bytes: Vec<_> = (0..digits.len()).step_by(2).map(byte).collect();
        self.file.write_all(&bytes).unwrap();
    }

    /// Renames every file from this age on to the name of the next age, and still writes to the same file.
    fn shift(&self, from: usize) {
        let ages = (from..).take_while(|age| rotated(&self.path, *age).exists());
        for age in ages.collect::<Vec<_>>().into_iter().rev() {
            fs::rename(rotated(&self.path, age), rotated(&self.path, age + 1)).unwrap();
        }
    }

    /// Rotates so many times, as fast as possible. Each file gets one line under its name and one after its
    /// rename.
    fn storm(&mut self, count: usize) {
        for _ in 0..count {
            self.lines(1);
            self.shift(0);
            self.lines(1);
            self.file = open(&self.path);
        }
    }

    fn copy_and_truncate(&self) {
        self.shift(1);
        fs::copy(&self.path, rotated(&self.path, 1)).unwrap();
        self.file.set_len(0).unwrap();
    }
}
