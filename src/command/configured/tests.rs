//! Files of every kind, where a configuration is looked for.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::settings::config::Key;

struct Etc(tempfile::TempDir);

impl Etc {
    fn new() -> Self {
        let etc = Self(tempfile::tempdir().unwrap());
        fs::create_dir(etc.path("conf.d")).unwrap();
        etc
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn read(&self) -> Result<Resolved, Vec<String>> {
        read_files(Some(&self.path("main.toml"))).map_err(|errors| told(&errors))
    }
}

#[test]
fn files_come_in_the_order_of_their_names() {
    let etc = Etc::new();
    etc.write("main.toml", "rules.group = 1\nrules.max_heals = 1");
    etc.write("conf.d/20-b.toml", "rules.group = 3");
    etc.write("conf.d/10-a.toml", "rules.group = 2\nrules.keep = true");
    // An editor's, and somebody's notes.
    etc.write("conf.d/30-c.toml~", "nonsense");
    etc.write("conf.d/.#40-d.toml", "nonsense");
    etc.write("conf.d/README", "nonsense");
    let resolved = etc.read().unwrap();
    assert_eq!(resolved.config.group, 3);
    assert_eq!(resolved.config.max_heals, 1);
    assert!(resolved.config.keep);
    let origin = resolved.origin(Key::Group).to_string();
    assert!(origin.ends_with("conf.d/20-b.toml:1"), "{origin}");
}

#[test]
fn a_file_that_was_named_has_to_be_there() {
    let etc = Etc::new();
    let errors = etc.read().unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].contains("main.toml: cannot be read: No such file"),
        "{errors:?}"
    );
    // And without a folder beside it.
    fs::remove_dir(etc.path("conf.d")).unwrap();
    etc.write("main.toml", "");
    assert_eq!(etc.read().unwrap(), Resolved::default());
    // As no configuration at all.
    let none = read_files(Some(Path::new("/dev/null"))).unwrap();
    assert_eq!(none, Resolved::default());
}

#[test]
fn what_is_no_configuration_is_refused() {
    let etc = Etc::new();
    etc.write("main.toml", "x = 1");
    etc.write("conf.d/1.toml", b"# \xff\n");
    etc.write("conf.d/2.toml", b"a = 1\n\"\xff\" = 1\n");
    etc.write("conf.d/3.toml", vec![b'#'; (1 << 20) + 1]);
    fs::create_dir(etc.path("conf.d/4.toml")).unwrap();
    nix::unistd::mkfifo(&etc.path("conf.d/5.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/nowhere", etc.path("conf.d/6.toml")).unwrap();
    let errors = etc.read().unwrap_err();
    let expected = [
        "1.toml:1: is no text (UTF-8)",
        "2.toml:2: is no text (UTF-8)",
        "3.toml: is larger than 1 MiB",
        "4.toml: is a folder",
        "5.toml: is a pipe",
        "6.toml: cannot be read: No such file",
        "main.toml:1: unknown key \"x\"",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.contains(expected), "{error}: not {expected}");
    }
    let endless = told(&read_files(Some(Path::new("/dev/zero"))).unwrap_err());
    assert!(endless[0].contains("larger than 1 MiB"), "{endless:?}");
}

#[test]
fn root_obeys_no_file_that_everybody_may_write() {
    assert!(nix::unistd::geteuid().is_root(), "these tests need root");
    for name in ["main.toml", "conf.d/a.toml", "conf.d"] {
        let etc = Etc::new();
        etc.write("main.toml", "");
        etc.write("conf.d/a.toml", "");
        assert!(etc.read().is_ok());
        let path = etc.path(name);
        let mode = fs::metadata(&path).unwrap().mode();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o002)).unwrap();
        let errors = etc.read().unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            errors[0].contains(&format!("chmod o-w {}", path.display())),
            "{errors:?}"
        );
    }
}

#[test]
fn mistakes_without_number_are_told_within_bounds() {
    let etc = Etc::new();
    let text: String = (0..500).map(|number| format!("x{number} = 1\n")).collect();
    etc.write("main.toml", text);
    let errors = etc.read().unwrap_err();
    assert_eq!(errors.len(), MAX_TOLD + 1);
    assert_eq!(errors[MAX_TOLD], "and 450 mistakes more");
}

/// A name cannot end the comment that bears it.
#[test]
fn a_hostile_name_stays_in_its_comment() {
    let etc = Etc::new();
    etc.write("main.toml", "");
    let name = std::ffi::OsStr::from_bytes(b"conf.d/a\nrules.group = 9 #\xff.toml");
    fs::write(etc.0.path().join(name), "rules.keep = true").unwrap();
    let resolved = etc.read().unwrap();
    let mut shown = Vec::new();
    let shape = crate::view::Configuration::new(&resolved);
    shape.toml(&mut shown).unwrap();
    let again = etc.write("again.toml", &shown);
    fs::remove_dir_all(etc.path("conf.d")).unwrap();
    let again = read_files(Some(&again)).unwrap();
    assert_eq!(again.config, resolved.config);
}
