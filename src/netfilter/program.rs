//! The programs that load rules, found and run: with fixed arguments, in the C locale, without a
//! shell; what they refuse becomes an error that says what to do.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Error;

/// Where programs of the administrator lie; a shell made by `su` without `-` does not look there.
const SYSTEM_PATHS: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];
/// Bytes of an answer that are read; more is no ruleset.
const ANSWER: u64 = 256 << 20;
/// Lines of a refusal that are shown.
const REFUSAL_LINES: usize = 3;

/// A program that is there.
#[derive(Clone, Debug)]
pub(super) struct Program {
    name: String,
    path: PathBuf,
}

impl Program {
    /// The program `name`, in `$PATH` or where such programs lie.
    pub(super) fn find(name: &str) -> Option<Self> {
        let given = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&given)
            .filter(|folder| folder.is_absolute())
            .chain(SYSTEM_PATHS.map(PathBuf::from));
        folders
            .map(|folder| folder.join(name))
            .find(|path| {
                path.metadata()
                    .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
            })
            .map(|path| Self {
                name: name.to_owned(),
                path,
            })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Runs it with `arguments` and `input`; answers what it printed.
    #[expect(
        clippy::disallowed_methods,
        reason = "this room loads rules by programs"
    )]
    pub(super) fn run(&self, arguments: &[&str], input: &str) -> Result<String, Error> {
        let step = format!("{} {}", self.name, arguments.join(" "));
        let failed = |error| Error::Io {
            what: step.clone(),
            error,
        };
        let mut child = Command::new(&self.path)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for us alone: what has begun to load rules is to end.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that reads no input closes its end; its status tells the rest.
            let _ = stdin.write_all(input.as_bytes());
        }
        let mut said = child.stderr.take();
        // Both are read at once: a program that waits for one of them to be read would never end.
        let (answer, said) = std::thread::scope(|scope| {
            let said = scope.spawn(move || said.as_mut().map(text).transpose());
            let answer = child.stdout.take().as_mut().map(text).transpose();
            (answer, said.join())
        });
        let status = child.wait().map_err(failed)?;
        let answer = answer.map_err(failed)?.unwrap_or_default();
        let said = said
            .unwrap_or(Ok(None))
            .map_err(failed)?
            .unwrap_or_default();
        if status.success() {
            return Ok(answer);
        }
        Err(refusal(step, &said))
    }
}

fn text(from: &mut impl Read) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    from.take(ANSWER).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a program's last words mean.
fn refusal(step: String, said: &str) -> Error {
    let holds = |marks: &[&str]| marks.iter().any(|mark| said.contains(mark));
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .take(REFUSAL_LINES)
        .collect();
    let said = if lines.is_empty() {
        "without a word".to_owned()
    } else {
        lines.join(" / ")
    };
    if holds(&[
        "Operation not permitted",
        "Permission denied",
        "you must be root",
    ]) {
        return Error::NotPermitted { step };
    }
    if holds(&["xtables lock"]) {
        return Error::Locked { step };
    }
    if holds(&["Protocol not supported", "Address family not supported"]) {
        return Error::Kernel {
            step,
            said,
            advice: "load nf_tables (modprobe nf_tables), or use --backend iptables",
        };
    }
    if holds(&["do you need to insmod", "Table does not exist"]) {
        return Error::Kernel {
            step,
            said,
            advice: "load the module of that table (modprobe iptable_filter), or use --backend nft",
        };
    }
    Error::Refused { step, said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_becomes_what_to_do() {
        let error = |said: &str| refusal("nft -f -".to_owned(), said).to_string();
        assert!(error("Operation not permitted (you must be root)").contains("as root"));
        assert!(
            error("Unable to initialize Netlink socket: Protocol not supported")
                .contains("modprobe nf_tables")
        );
        assert!(error("iptables v1.8.9 (legacy): can't initialize iptables table `filter': Table does not exist (do you need to insmod?)").contains("modprobe iptable_filter"));
        assert!(
            error("Another app is currently holding the xtables lock; still 9s").contains("fuser")
        );
        assert_eq!(
            error("a\n\n# Warning: x\nb\nc\nd\n"),
            "nft -f -: refused: a / b / c"
        );
        assert_eq!(error(""), "nft -f -: refused: without a word");
    }

    #[test]
    fn a_program_is_found_and_its_words_are_read() {
        assert!(Program::find("no-such-program-of-ours").is_none());
        let cat = Program::find("cat").unwrap();
        assert_eq!(cat.run(&["-"], "a\nb\n").unwrap(), "a\nb\n");
        let error = cat.run(&["/no/such/file"], "").unwrap_err().to_string();
        assert!(error.starts_with("cat /no/such/file: refused: "), "{error}");
    }
}
