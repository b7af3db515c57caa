// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program that is measured, under `evtchn run` or natively. It prints its times as JSON.
//!
//! `probe calls BURSTS CALLS`, `probe ping FILE BURSTS CALLS`, `probe pong FILE`.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use evtchn_benches::spread::Bursts;
use evtchn_benches::{calls, pair};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("probe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<String> {
    let json = match words {
        ["calls", count, calls] => serde_json::to_string(&calls::all(bursts(count, calls)?)?),
        ["ping", meet, count, calls] => {
            serde_json::to_string(&pair::ping(Path::new(meet), bursts(count, calls)?)?)
        }
        ["pong", meet] => return pair::pong(Path::new(meet)).map(|()| String::new()),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    json.map_err(io::Error::from)
}

fn bursts(count: &str, calls: &str) -> io::Result<Bursts> {
    let number = |text: &str| text.parse().map_err(io::Error::other);
    Ok(Bursts { count: number(count)?, calls: number(calls)? })
}
