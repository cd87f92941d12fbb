//! How many different values there were.

use millstream_core::RawJsonRef;

use super::Source;
use crate::counts::token_of;
use crate::{Combine, Event, ReduceError, Reducer, Value};

/// An estimate of how many different values a field had, by HyperLogLog.
///
/// Values are told apart by their text, as the keys of a map are: 1 and `"1"` are the same. The
/// standard error is `1.04 / sqrt(2^precision)`: 1.6 % with the default precision of 12, and small
/// numbers are nearly exact.
///
/// Sources: Flajolet, Fusy, Gandouet and Meunier, "HyperLogLog: the analysis of a near-optimal
/// cardinality estimation algorithm" (2007); the estimator without bias tables is that of Ertl,
/// "New cardinality estimation algorithms for HyperLogLog sketches" (2017), section 2. There is no
/// library under this because the registers and the hash are part of the snapshot format: they have
/// to be the same in every version and instance, or combining would double everything.
///
/// # Cost
/// `2^precision` bytes per state (4 KiB), O(1) per event, O(2^precision) to show.
#[derive(Clone, Debug)]
pub struct Distinct {
    source: Source,
    precision: u8,
}

/// One byte per register, and how many registers have each value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    registers: Box<[u8]>,
}

impl Distinct {
    /// Of this field of the data.
    #[must_use]
    pub fn of(field: &str) -> Self {
        Self::from(Source::Field(field.into()), 12)
    }

    /// With `2^precision` registers; kept between 4 and 16.
    #[must_use]
    pub fn precision(self, precision: u8) -> Self {
        Self::from(self.source, precision)
    }

    pub(crate) fn from(source: Source, precision: u8) -> Self {
        Self {
            source,
            precision: precision.clamp(4, 16),
        }
    }

    /// Ertl's improved raw estimator.
    fn estimate(&self, state: &Registers) -> f64 {
        let rank_max = 64 - u32::from(self.precision);
        let mut histogram = [0_u32; 66];
        for register in &state.registers {
            histogram[(*register).min(65) as usize] += 1;
        }
        let m = state.registers.len() as f64;
        let mut z = m * tau(1.0 - f64::from(histogram[rank_max as usize + 1]) / m);
        for rank in (1..=rank_max).rev() {
            z = 0.5 * (z + f64::from(histogram[rank as usize]));
        }
        z += m * sigma(f64::from(histogram[0]) / m);
        m * m / (2.0 * core::f64::consts::LN_2 * z)
    }
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

/// 64 well-mixed bits of a text: FNV-1a over words of eight bytes, then the finaliser of
/// SplitMix64. Part of the snapshot format: never change it.
fn hash(text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ text.len() as u64;
    let mut chunks = text.as_bytes().chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = mix(hash ^ word);
    }
    for byte in chunks.remainder() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(hash)
}

const fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Reducer for Distinct {
    /// The hash.
    type Input = u64;
    type State = Registers;

    fn init(&self) -> Registers {
        Registers {
            registers: vec![0; 1 << self.precision].into(),
        }
    }

    fn read(&self, event: &Event<'_>) -> Result<Option<u64>, ReduceError> {
        let found = self.source.read(event)?;
        let mut scratch = String::new();
        Ok(found.map(|_| hash(token_of(found, &mut scratch))))
    }

    fn reduce(&self, state: &mut Registers, input: &u64) {
        let index = (input >> (64 - self.precision)) as usize;
        let rest = input << self.precision;
        let rank = (rest.leading_zeros() as u8).min(64 - self.precision) + 1;
        if let Some(register) = state.registers.get_mut(index) {
            *register = rank.max(*register);
        }
    }

    fn value(&self, state: &Registers) -> Value {
        let estimate = self.estimate(state);
        Value::Number(if estimate.is_finite() {
            estimate.round()
        } else {
            0.0
        })
    }

    /// Two hexadecimal digits per register, with runs of empty ones as `z` and their number.
    fn save(&self, state: &Registers) -> Value {
        let mut out = String::from("\"");
        let mut registers = state.registers.iter().copied().peekable();
        while let Some(register) = registers.next() {
            if register != 0 {
                out.push(char::from(b'A' + register / 16));
                out.push(char::from(b'A' + register % 16));
                continue;
            }
            let mut run = 1;
            while registers.next_if_eq(&0).is_some() {
                run += 1;
            }
            out.push('z');
            out.push_str(itoa::Buffer::new().format(run));
        }
        out.push('"');
        Value::Text(out.into())
    }

    fn restore(&self, saved: RawJsonRef<'_>) -> Option<Registers> {
        let text = saved.as_json_str()?.plain()?;
        let mut registers = Vec::with_capacity(1 << self.precision);
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            if *first == b'z' {
                let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                let (run, tail) = rest.split_at(digits);
                let run: usize = core::str::from_utf8(run).ok()?.parse().ok()?;
                rest = tail;
                if run > (1 << self.precision) - registers.len() {
                    return None;
                }
                registers.resize(registers.len() + run, 0);
                continue;
            }
            let (second, tail) = rest.split_first()?;
            rest = tail;
            let digit = |byte: &u8| byte.checked_sub(b'A').filter(|digit| *digit < 16);
            let register = digit(first)? * 16 + digit(second)?;
            if register > 65 - self.precision || registers.len() == 1 << self.precision {
                return None;
            }
            registers.push(register);
        }
        (registers.len() == 1 << self.precision).then(|| Registers {
            registers: registers.into(),
        })
    }
}

impl Combine for Distinct {
    const DISTRIBUTES: bool = true;

    fn combine(&self, older: &mut Registers, newer: &Registers) {
        for (older, newer) in older.registers.iter_mut().zip(&newer.registers) {
            *older = (*older).max(*newer);
        }
    }
}
