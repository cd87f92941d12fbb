//! Flags, counters, logs and rows.

use super::{Args, Handled, Outcome, now};
use crate::calls::Failure;
use crate::hooks::App;

pub(super) fn run(app: &App, name: &str, args: &Args) -> Handled {
    let state = &app.state;
    let handled = || -> Result<Option<Outcome>, Failure> {
        Ok(Some(match name {
            "setFlag" => {
                let value = Some(args.raw(1)).filter(|value| *value != "null");
                state.set_flag(&args.text(0)?, value.map(str::to_owned));
                now(true)?
            }
            "getFlag" => raw(state
                .flag(&args.text(0)?)
                .unwrap_or_else(|| "null".to_owned())),
            "counter" => now(state.counter(&args.text(0)?))?,
            "bump" => now(state.bump(&args.text(0)?))?,
            "readLog" => now(state.read_log(&args.text(0)?))?,
            "addLog" => {
                state.log(&args.text(0)?, args.text(1)?);
                now(true)?
            }
            "clearLog" => {
                state.clear_log(&args.text(0)?);
                now(true)?
            }
            "truth" => raw(state.rows(&args.text(0)?, &args.text(1)?)),
            "seed" => {
                state.set_rows(&args.text(0)?, &args.text(1)?, args.raw(2).to_owned());
                now(true)?
            }
            _ => return Ok(None),
        }))
    };
    handled().transpose()
}

fn raw(json: String) -> Outcome {
    Outcome::Now(Ok(Some(json)))
}
