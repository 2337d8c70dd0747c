//! `nervewire passwd`: one line per user, `USER:HASH`, with a hash that `builtin:password` verifies. The file is replaced whole
//! by a rename, so that a broker that watches it never reads half of it.

use anyhow::{Context, bail, ensure};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use std::fs::{self, File};
use std::io::{BufRead, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A password is an MQTT field of Binary Data (MQTT 5.0 section 1.5.6), and a user name a string of the same length.
const MAX_FIELD_BYTES: usize = 65_535;

/// Adds `user` to the password file with a password asked for at the terminal, or replaces the user's password. Without a
/// terminal the password is the first line of standard input. Answers what was done.
pub(crate) fn set_password(file: &Path, user: &str) -> anyhow::Result<String> {
    let user = user_name(user).map_err(anyhow::Error::msg)?;
    let password = match std::io::stdin().is_terminal() {
        true => ask_twice(&user)?,
        false => first_line(std::io::stdin().lock())?,
    };
    let entry = entry(&user, &password)?;
    let replaced = update(file, |lines| Ok(set_entry(lines, &user, entry)))?;
    let done = if replaced { "changed" } else { "added" };
    Ok(format!("{user}: {done} in {}", file.display()))
}

/// Removes `user` from the password file; an error where it is not in there.
pub(crate) fn remove_user(file: &Path, user: &str) -> anyhow::Result<String> {
    ensure!(file.exists(), "{} does not exist", file.display());
    update(file, |lines| {
        let before = lines.len();
        lines.retain(|line| !is_entry_of(line, user));
        ensure!(lines.len() < before, "{user} is not in {}", file.display());
        Ok(())
    })?;
    Ok(format!("{user}: removed from {}", file.display()))
}

/// A user name that can stand in a password file, or why it cannot; fit for the command line's parser.
pub(crate) fn user_name(text: &str) -> Result<String, String> {
    let wrong = match text {
        "" => "it is empty",
        _ if text.len() > MAX_FIELD_BYTES => "it is over 65535 bytes",
        _ if text.contains(':') => "`:` ends the user name in a password file",
        _ if text.contains(char::is_control) => "it has a control character",
        _ if text.starts_with('#') => "`#` starts a comment in a password file",
        _ if text.trim() != text => "it begins or ends with a space",
        _ => return Ok(text.to_owned()),
    };
    Err(format!("not a user name for a password file: {wrong}"))
}

fn ask_twice(user: &str) -> anyhow::Result<Vec<u8>> {
    let password = rpassword::prompt_password(format!("Password for {user}: "))?;
    let again = rpassword::prompt_password("The same again: ")?;
    ensure!(password == again, "the two passwords differ; nothing was changed");
    Ok(password.into_bytes())
}

/// The first line, without its end. Bytes, because a password need not be text.
fn first_line(input: impl BufRead) -> anyhow::Result<Vec<u8>> {
    let mut line = Vec::new();
    // Two more than a password may have, for the line's end; what is longer is refused below.
    input.take(MAX_FIELD_BYTES as u64 + 2).read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
}

/// `USER:$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH` with a random salt: the first choice of the OWASP recommendations.
fn entry(user: &str, password: &[u8]) -> anyhow::Result<String> {
    const MEMORY_KIB: u32 = 19_456;
    const PASSES: u32 = 2;
    const LANES: u32 = 1;
    ensure!(!password.is_empty(), "the password is empty; nothing was changed");
    ensure!(
        password.len() <= MAX_FIELD_BYTES,
        "the password is over {MAX_FIELD_BYTES} bytes, which MQTT cannot send"
    );
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).context("argon2 parameters")?;
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password(password);
    Ok(format!("{user}:{}", hash.context("hashing the password")?))
}

/// Puts the entry where the user's first one was, or at the end, and removes others of the same user. Answers whether there was
/// one.
fn set_entry(lines: &mut Vec<String>, user: &str, entry: String) -> bool {
    let place = lines.iter().position(|line| is_entry_of(line, user));
    lines.retain(|line| !is_entry_of(line, user));
    lines.insert(place.unwrap_or(lines.len()), entry);
    place.is_some()
}

fn is_entry_of(line: &str, user: &str) -> bool {
    line.split_once(':').is_some_and(|(name, _)| name == user)
}

/// Applies a change to the lines of a file, which need not exist. Other lines stay as they are.
fn update<T>(file: &Path, change: impl FnOnce(&mut Vec<String>) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let target = resolve(file)?;
    let directory = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // Two runs at a time would each lose what the other wrote. The lock is on the directory, because the file is replaced.
    let lock = File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
    lock.lock()
        .with_context(|| format!("locking {}", directory.display()))?;
    let old = read_existing(&target)?;
    let mut lines: Vec<String> = old
        .as_ref()
        .map_or("", |(text, _)| text)
        .lines()
        .map(str::to_owned)
        .collect();
    let answer = change(&mut lines)?;
    replace(&target, directory, &lines, old.as_ref().map(|(_, metadata)| metadata))
        .with_context(|| format!("writing {}", file.display()))?;
    lock.sync_all()
        .with_context(|| format!("writing {}", directory.display()))?;
    Ok(answer)
}

/// Follows symbolic links: a rename onto the link would cut it off from the file that others read.
fn resolve(file: &Path) -> anyhow::Result<PathBuf> {
    match fs::canonicalize(file) {
        Ok(target) => Ok(target),
        Err(error) if error.kind() == ErrorKind::NotFound && !file.is_symlink() => Ok(file.to_owned()),
        Err(error) => Err(error).with_context(|| format!("following {}", file.display())),
    }
}

fn read_existing(target: &Path) -> anyhow::Result<Option<(String, fs::Metadata)>> {
    let metadata = match fs::metadata(target) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", target.display())),
    };
    if !metadata.is_file() {
        bail!("{} is not a file", target.display());
    }
    let text = fs::read_to_string(target).with_context(|| format!("reading {}", target.display()))?;
    Ok(Some((text, metadata)))
}

/// A new file is for its owner only; an existing one keeps mode and owner, or the broker could no longer read it.
fn replace(target: &Path, directory: &Path, lines: &[String], old: Option<&fs::Metadata>) -> anyhow::Result<()> {
    let mut new = NamedTempFile::new_in(directory)?;
    for line in lines {
        writeln!(new, "{line}")?;
    }
    if let Some(old) = old {
        let created = new.as_file().metadata()?;
        if (created.uid(), created.gid()) != (old.uid(), old.gid()) {
            fchown(new.as_file(), Some(old.uid()), Some(old.gid())).context("keeping the file's owner")?;
        }
        new.as_file()
            .set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    }
    new.as_file().sync_all()?;
    new.persist(target)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::PasswordVerifier;
    use argon2::password_hash::phc::PasswordHash;
    use std::os::unix::fs::symlink;

    #[track_caller]
    fn check_user_name(text: &str, expected: Result<(), &str>) {
        match (user_name(text), expected) {
            (Ok(name), Ok(())) => assert_eq!(name, text),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (got, expected) => panic!("{text:?}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn user_names_that_would_break_the_file_are_refused() {
        check_user_name("alice", Ok(()));
        check_user_name("Alice Müller@example.org", Ok(()));
        check_user_name("", Err("empty"));
        check_user_name("a:b", Err("`:`"));
        check_user_name("a\nb", Err("control"));
        check_user_name("a\0", Err("control"));
        check_user_name("#a", Err("comment"));
        check_user_name(" a", Err("space"));
        check_user_name(&"a".repeat(65_536), Err("65535"));
    }

    #[track_caller]
    fn check_line(input: &[u8], expected: &[u8]) {
        assert_eq!(first_line(input).unwrap(), expected);
    }

    #[test]
    fn a_password_is_the_first_line_of_the_input() {
        check_line(b"secret\n", b"secret");
        check_line(b"secret", b"secret");
        check_line(b"secret\r\nmore\n", b"secret");
        check_line(b" two words \n", b" two words ");
        check_line(b"\xff\xfe\n", b"\xff\xfe");
        check_line(b"", b"");
        check_line(b"\n", b"");
    }

    #[test]
    fn an_entry_verifies_its_password_and_no_other() {
        let entry = entry("alice", b"secret").unwrap();
        let hash = entry.strip_prefix("alice:").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let hash = PasswordHash::new(hash).unwrap();
        assert!(Argon2::default().verify_password(b"secret", &hash).is_ok());
        assert!(Argon2::default().verify_password(b"Secret", &hash).is_err());
    }

    #[test]
    fn passwords_that_no_client_can_send_are_refused() {
        assert!(entry("a", b"").unwrap_err().to_string().contains("empty"));
        assert!(entry("a", &[b'x'; 65_536]).unwrap_err().to_string().contains("65535"));
    }

    #[track_caller]
    fn check_set(before: &str, expected: &str, replaced: bool) {
        let mut lines: Vec<_> = before.lines().map(str::to_owned).collect();
        assert_eq!(set_entry(&mut lines, "bob", "bob:new".to_owned()), replaced);
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn an_entry_replaces_the_old_ones_in_place_or_is_appended() {
        check_set("", "bob:new", false);
        check_set("ann:1", "ann:1\nbob:new", false);
        check_set("# team\nbob:old\nann:1", "# team\nbob:new\nann:1", true);
        check_set("bob:1\nann:1\nbob:2", "bob:new\nann:1", true);
        check_set("bobby:1\nbo:2\n#bob:3", "bobby:1\nbo:2\n#bob:3\nbob:new", false);
    }

    fn add(file: &Path, user: &str) -> anyhow::Result<bool> {
        update(file, |lines| Ok(set_entry(lines, user, format!("{user}:hash"))))
    }

    fn mode(file: &Path) -> u32 {
        fs::metadata(file).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_file_is_for_its_owner_only_and_an_old_one_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("passwd");
        assert!(!add(&file, "ann").unwrap());
        assert_eq!(mode(&file), 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(!add(&file, "bob").unwrap());
        assert_eq!(mode(&file), 0o640);
        assert_eq!(fs::read_to_string(&file).unwrap(), "ann:hash\nbob:hash\n");
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing but the file is left"
        );
    }

    #[test]
    fn a_symbolic_link_stays_and_its_target_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (directory.path().join("link"), directory.path().join("target"));
        fs::write(&target, "ann:1\n").unwrap();
        symlink("target", &link).unwrap();
        add(&link, "bob").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "ann:1\nbob:hash\n");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let dangling = directory.path().join("dangling");
        symlink("nowhere", &dangling).unwrap();
        assert!(add(&dangling, "bob").is_err());
        assert!(add(directory.path(), "bob").is_err());
        assert!(add(&directory.path().join("missing/passwd"), "bob").is_err());
    }

    #[test]
    fn removing_takes_only_that_user_and_fails_where_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("passwd");
        assert!(
            remove_user(&file, "bob")
                .unwrap_err()
                .to_string()
                .contains("does not exist")
        );
        fs::write(&file, "ann:1\nbob:2\n").unwrap();
        remove_user(&file, "bob").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "ann:1\n");
        assert!(
            remove_user(&file, "bob")
                .unwrap_err()
                .to_string()
                .contains("bob is not in")
        );
    }
}
