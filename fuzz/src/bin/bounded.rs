// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a target for some seconds without libFuzzer: its corpus, then changed and random inputs, the same in each run.
//!
//! ```text
//! bounded TARGET SECONDS         a panic leaves its input in crash-TARGET, and names it
//! bounded TARGET FILE            one input
//! ```

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, panic};

use evtchn_fuzz::{TARGETS, Target};

/// Bytes of a random input.
const LONGEST: u64 = 600;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, what] = arguments.as_slice() else { return Err("usage: bounded TARGET SECONDS|FILE".into()) };
    let target = TARGETS.iter().find(|(known, _)| known == name).ok_or("no such target")?.1;
    match what.parse() {
        Ok(seconds) => run(name, target, Duration::from_secs(seconds)),
        Err(_) => {
            target(&fs::read(what)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run(name: &str, target: Target, time: Duration) -> Result<ExitCode, Box<dyn Error>> {
    let corpus = corpus(name)?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (start, mut count) = (Instant::now(), 0usize);
    while count < corpus.len() || start.elapsed() < time {
        let input = corpus.get(count).cloned().unwrap_or_else(|| random.input(&corpus));
        if panic::catch_unwind(|| target(&input)).is_err() {
            let file = format!("crash-{name}");
            fs::write(&file, &input)?;
            eprintln!("{name}: input {count} panicked; it is in {file}");
            return Ok(ExitCode::FAILURE);
        }
        count += 1;
    }
    println!("{name}: {count} inputs, {} of them of the corpus", corpus.len());
    Ok(ExitCode::SUCCESS)
}

/// The committed inputs, in the order of their names.
fn corpus(name: &str) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    files.iter().map(|file| Ok(fs::read(file.path())?)).collect()
}

/// xorshift: the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end.max(1)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        // Small ones more often: they name what exists.
        let end = [4, 16, 256, 256][self.below(4)];
        u8::try_from(self.below(end)).unwrap_or(0)
    }

    /// One of the corpus with some bytes changed, removed or added; or all random.
    fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        if corpus.is_empty() || self.below(3) == 0 {
            return (0..self.below(LONGEST)).map(|_| self.byte()).collect();
        }
        let mut input = corpus[self.below(corpus.len() as u64)].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(input.len() as u64);
            match self.below(5) {
                0 if !input.is_empty() => drop(input.remove(at)),
                1 => input.insert(at, self.byte()),
                2 => input.truncate(at),
                _ if !input.is_empty() => input[at] = self.byte(),
                _ => {}
            }
        }
        input.extend((0..self.below(60)).map(|_| self.byte()));
        input
    }
}
