//! Who runs this: for the record of who asked what. Names come from the environment, where anybody can
//! write anything; the number of the user does not.

use nix::unistd::{User, getuid};

use crate::view::for_terminal;

/// Characters of a name that are kept.
const MAX_NAME: usize = 64;

/// The user, and on whose behalf: `root (0), for alice`.
pub(super) fn operator() -> String {
    let uid = getuid();
    let user = User::from_uid(uid).ok().flatten().map(|user| user.name);
    told(uid.as_raw(), user, std::env::var("SUDO_USER").ok())
}

fn told(uid: u32, user: Option<String>, behalf: Option<String>) -> String {
    let fit = |name: String| {
        let name: String = name.chars().take(MAX_NAME).collect();
        for_terminal(&name)
    };
    let user = user.map_or_else(|| uid.to_string(), |name| format!("{} ({uid})", fit(name)));
    match behalf.filter(|name| !name.is_empty()) {
        Some(behalf) => format!("{user}, for {}", fit(behalf)),
        None => user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_says_is_made_harmless() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(told(0, text("root"), text("alice")), "root (0), for alice");
        assert_eq!(told(7, None, None), "7");
        assert_eq!(told(7, None, text("")), "7");
        let hostile = told(0, text("root"), text(&"\u{1b}[2J\n".repeat(1000)));
        assert!(
            !hostile.contains(['\u{1b}', '\n']) && hostile.len() < 500,
            "{hostile}"
        );
    }
}
