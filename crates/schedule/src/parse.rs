use crate::error::{CronError, Field, Problem};

/// One field after another, as sets of values: bit `n` stands for the value `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fields {
    /// `None` when the expression has no field for seconds.
    pub(crate) seconds: Option<u64>,
    pub(crate) minutes: u64,
    pub(crate) hours: u64,
    pub(crate) days: u64,
    pub(crate) months: u64,
    /// Sunday is 0 and only 0.
    pub(crate) weekdays: u64,
}

/// Reads an expression of five or six fields. Linear in its length, without allocation but for an
/// error.
pub(crate) fn parse(text: &str) -> Result<Fields, CronError> {
    let mut found = [(0, ""); 6];
    let mut count = 0;
    for field in split(text) {
        if let Some(place) = found.get_mut(count) {
            *place = field;
        }
        count += 1;
    }
    let (seconds, rest) = match count {
        5 => (None, &found[..5]),
        6 => (Some(set_of(Field::Second, found[0])?), &found[1..]),
        got => return Err(CronError::FieldCount { got }),
    };
    Ok(Fields {
        seconds,
        minutes: set_of(Field::Minute, rest[0])?,
        hours: set_of(Field::Hour, rest[1])?,
        days: set_of(Field::Day, rest[2])?,
        months: set_of(Field::Month, rest[3])?,
        weekdays: set_of(Field::Weekday, rest[4])?,
    })
}

/// The fields with the byte at which each begins.
fn split(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let start = text.as_ptr().addr();
    text.split(blank)
        .filter(|field| !field.is_empty())
        .map(move |field| (field.as_ptr().addr() - start, field))
}

/// White space as JavaScript sees it.
fn blank(char: char) -> bool {
    match char {
        '\u{feff}' => true,
        '\u{85}' => false,
        other => other.is_whitespace(),
    }
}

fn set_of(field: Field, (at, text): (usize, &str)) -> Result<u64, CronError> {
    if text == "*" {
        return Ok(every(field, 1));
    }
    let mut set = 0;
    let mut from = at;
    for part in text.split(',') {
        set |=
            part_of(field, part).map_err(|problem| CronError::field(field, from, part, problem))?;
        from += part.len() + 1;
    }
    Ok(set)
}

/// One of `*/N`, `N`, `A-B` and `A-B/N`.
fn part_of(field: Field, text: &str) -> Result<u64, Problem> {
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    if text == "*" {
        return Err(Problem::StarInList);
    }
    if let Some(step) = text.strip_prefix("*/") {
        return step_of(step).map(|step| every(field, step));
    }
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (text, None),
    };
    let (first, last) = match (range.split_once('-'), step) {
        (Some((first, last)), _) => (value_of(field, first)?, value_of(field, last)?),
        (None, None) => {
            let only = value_of(field, range)?;
            (only, only)
        }
        // Some programs read `5/15` as 5-59/15, others as 5, and the classic one refuses it.
        (None, Some(_)) => return Err(value_of(field, range).err().unwrap_or(Problem::StepOfOne)),
    };
    if first > last {
        return Err(Problem::Backwards);
    }
    let step = step.map_or(Ok(1), step_of)?;
    let values = (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    Ok(values.fold(0, |set, value| set | bit(field, value)))
}

/// The values that `step` divides. Not every `step`-th value: `*/2` as a day is 2, 4, 6.
fn every(field: Field, step: u64) -> u64 {
    let (min, max) = field.range();
    (min..=max)
        .filter(|value| value % step == 0)
        .fold(0, |set, value| set | bit(field, value))
}

fn bit(field: Field, value: u64) -> u64 {
    match (field, value) {
        (Field::Weekday, 7) => 1,
        _ => 1 << value,
    }
}

fn value_of(field: Field, text: &str) -> Result<u64, Problem> {
    let (min, max) = field.range();
    let value = number_of(text)?;
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(Problem::OutOfRange)
    }
}

fn step_of(text: &str) -> Result<u64, Problem> {
    match number_of(text)? {
        0 => Err(Problem::ZeroStep),
        step => Ok(step),
    }
}

/// Decimal digits and nothing else. What does not fit is as good as the largest number that does.
fn number_of(text: &str) -> Result<u64, Problem> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::NotANumber);
    }
    Ok(text.bytes().fold(0, |value: u64, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}
