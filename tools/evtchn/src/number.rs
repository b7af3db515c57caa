// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers on the command line.

use std::ops::RangeInclusive;

/// A parser of the numbers in `range`.
pub fn within(range: RangeInclusive<u32>) -> impl Fn(&str) -> Result<u32, String> + Clone {
    move |text| {
        let number: i64 = text.parse().map_err(|_| "not a number")?;
        let found = u32::try_from(number).ok().filter(|number| range.contains(number));
        found.ok_or_else(|| format!("not from {} to {}", range.start(), range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_its_range() {
        let parse = within(1..=32);
        assert_eq!((parse("1"), parse("32")), (Ok(1), Ok(32)));
        for outside in ["0", "33", "-1", "4294967297"] {
            assert_eq!(parse(outside), Err("not from 1 to 32".into()));
        }
        for text in ["x", "", "1x", "0x1"] {
            assert_eq!(parse(text), Err("not a number".into()));
        }
    }
}
