//! Cron expressions and calendar boundaries in any IANA time zone, right across clock changes.
