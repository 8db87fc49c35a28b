//! The process that writes the log. It does what each line of its standard input says, and then
//! says so on its standard output.

use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The environment variable that makes this binary the writer of the file it names.
pub(crate) const FILE: &str = "LOG_TAIL_TEST_FILE";
/// What it answers.
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
    /// What is still to be written of a line that was begun.
    rest: Vec<u8>,
    dice: u64,
}

fn open(path: &Path) -> File {
    File::options().append(true).create(true).open(path).unwrap()
}

impl Writer {
    /// Ends the line that was begun, and writes so many more, in pieces that heed neither lines
    /// nor characters.
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

    /// Begins a line, and stops in the middle of a character.
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

    /// Gives every file from this age on the name of the next age, and goes on writing to its own.
    fn shift(&self, from: usize) {
        let ages = (from..).take_while(|age| rotated(&self.path, *age).exists());
        for age in ages.collect::<Vec<_>>().into_iter().rev() {
            fs::rename(rotated(&self.path, age), rotated(&self.path, age + 1)).unwrap();
        }
    }

    /// Rotates so many times as quickly as it can; each file gets a line under its name, and one
    /// afterwards.
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
