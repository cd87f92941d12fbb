//! Cron the slow way: the values of each field as a list, and a look at every second. Shared by the
//! tests and the fuzz target.

/// The values of each field, seconds first. `None` when the expression is refused.
#[derive(Debug)]
pub(crate) struct Model {
    fields: Vec<Vec<i64>>,
}

const RANGES: [(i64, i64); 6] = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];

impl Model {
    pub(crate) fn read(text: &str) -> Option<Self> {
        let is_blank = |c: char| (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}';
        let mut words: Vec<&str> = text.split(is_blank).filter(|w| !w.is_empty()).collect();
        if words.len() == 5 {
            words.insert(0, "0");
        }
        if words.len() != 6 {
            return None;
        }
        let fields = words.iter().zip(RANGES);
        Some(Self {
            fields: fields
                .map(|(word, range)| values(word, range))
                .collect::<Option<_>>()?,
        })
    }

    /// Whether this second of local time, counted from 1970, matches.
    pub(crate) fn matches(&self, local_s: i64) -> bool {
        let day = local_s.div_euclid(86_400);
        let second = local_s.rem_euclid(86_400);
        let (month, day_of_month) = date(day);
        let shown = [
            second % 60,
            second / 60 % 60,
            second / 3_600,
            day_of_month,
            month,
            (day + 4).rem_euclid(7),
        ];
        let weekday = |value: &i64| value % 7 == shown[5];
        (0..5).all(|place| self.fields[place].contains(&shown[place]))
            && self.fields[5].iter().any(weekday)
    }
}

/// Month and day of the month, year by year and month by month.
fn date(mut day: i64) -> (i64, i64) {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    loop {
        let before = if leap(year - 1) { 366 } else { 365 };
        let days = if leap(year) { 366 } else { 365 };
        if day < 0 {
            year -= 1;
            day += before;
        } else if day >= days {
            year += 1;
            day -= days;
        } else {
            break;
        }
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    (month, day + 1)
}

fn values(word: &str, (min, max): (i64, i64)) -> Option<Vec<i64>> {
    if word == "*" {
        return Some((min..=max).collect());
    }
    let mut all = Vec::new();
    for part in word.split(',') {
        if let Some(step) = part.strip_prefix("*/") {
            let step = digits(step).filter(|step| *step > 0)?;
            all.extend((min..=max).filter(|value| value % step == 0));
            continue;
        }
        let pieces: Vec<&str> = part.split(['-', '/']).collect();
        let signs: String = part.chars().filter(|c| "-/".contains(*c)).collect();
        let numbers = pieces
            .iter()
            .map(|p| digits(p))
            .collect::<Option<Vec<_>>>()?;
        let within = |value: &i64| (min..=max).contains(value);
        match (signs.as_str(), numbers.as_slice()) {
            ("", [only]) if within(only) => all.push(*only),
            ("-", [a, b]) if within(a) && within(b) && a <= b => all.extend(*a..=*b),
            ("-/", [a, b, step]) if within(a) && within(b) && a <= b && *step > 0 => {
                all.extend((*a..=*b).filter(|value| (value - a) % step == 0));
            }
            _ => return None,
        }
    }
    Some(all)
}

fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || text.chars().any(|c| !c.is_ascii_digit()) {
        return None;
    }
    // Too long to fit is too large for any range and any step.
    Some(text.parse().unwrap_or(i64::MAX))
}
