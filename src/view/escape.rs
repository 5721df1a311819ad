//! Hostile text made harmless for where it is shown.

use std::fmt::Write as _;

/// `text` for a terminal: control characters, escape sequences, and what turns the direction of
/// writing become visible.
pub(crate) fn terminal(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// `text` for a spreadsheet, which would run what begins like a formula (OWASP, CSV injection).
pub(super) fn spreadsheet(text: &str) -> String {
    let shown = terminal(text);
    match shown.chars().next() {
        Some('=' | '+' | '-' | '@') => format!("'{shown}"),
        _ => shown,
    }
}

/// Bidirectional controls and zero-width characters (Unicode TR 36).
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{061c}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_commands() {
        assert_eq!(terminal("eth0\x1b[2J\u{202e}x"), "eth0\\u{1b}[2J\\u{202e}x");
        assert_eq!(terminal("büro"), "büro");
    }

    #[test]
    fn a_spreadsheet_gets_no_formula() {
        assert_eq!(spreadsheet("=1+1"), "'=1+1");
        assert_eq!(spreadsheet("-x"), "'-x");
        assert_eq!(spreadsheet("eth0"), "eth0");
    }
}
