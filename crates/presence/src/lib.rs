//! Who is here: rosters, live cursors and broadcast groups as pure logic.
