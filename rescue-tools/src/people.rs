//! Who is at work here: the files in `/run/lifeboat/sessions`, with what `/proc` knows of each. A hold and a shell on the
//! console are among them.

use std::path::Path;

use init::status::HOLD_PATH;
use serde::Serialize;

use crate::run_dir::RunDir;

/// The file of a shell on the console begins so; the terminal's name follows.
pub const CONSOLE_PREFIX: &str = "console-";
/// No more programs of one person are named.
const PROGRAMS: usize = 4;

/// Someone, or the mark of someone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The name of the file: the session's process id, `console-…`, or `hold`.
    pub session: String,
    /// Who that is, in words: `root from 192.0.2.7 on /dev/pts/0`.
    pub who: String,
    /// What runs there.
    pub programs: Vec<String>,
    /// Whether this process runs in that session.
    pub own: bool,
}

impl Person {
    /// Who, and what they do, in one line.
    pub fn describe(&self) -> String {
        match self.programs.as_slice() {
            [] => self.who.clone(),
            programs => format!("{}: {}", self.who, programs.join(", ")),
        }
    }

    /// Whether it is the mark of `rescue hold` or `rd.break`.
    pub fn is_hold(&self) -> bool {
        Path::new(HOLD_PATH).file_name().is_some_and(|hold| *hold == *self.session)
    }
}

/// Everyone, in the order of their names.
pub fn people(run: &RunDir) -> Vec<Person> {
    people_of(run, Path::new("/proc"), std::process::id())
}

/// The same for the process `me`, with another folder for `/proc`.
fn people_of(run: &RunDir, proc: &Path, me: u32) -> Vec<Person> {
    let processes = processes(proc);
    let own = ancestors(&processes, me);
    let entries = std::fs::read_dir(run.sessions()).into_iter().flatten().flatten();
    let mut people: Vec<Person> = entries
        .filter_map(|entry| {
            let session = entry.file_name().into_string().ok()?;
            Some(person(proc, &processes, &own, session, &entry.path()))
        })
        .collect();
    people.sort_by(|one, other| one.session.cmp(&other.session));
    people
}

fn person(proc: &Path, processes: &[Process], own: &[u32], session: String, file: &Path) -> Person {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    if let Ok(id) = session.parse::<u32>() {
        let children: Vec<&Process> = processes.iter().filter(|process| process.parent == id).collect();
        let who = children.iter().find_map(|process| remote(proc, process.id));
        return Person {
            who: who.unwrap_or_else(|| "root by SSH".into()),
            programs: programs(processes, &children),
            own: own.contains(&id),
            session,
        };
    }
    if let Some(terminal) = session.strip_prefix(CONSOLE_PREFIX) {
        let leader = lines.next().and_then(|line| line.trim().parse::<u32>().ok());
        let children: Vec<&Process> = processes.iter().filter(|process| Some(process.id) == leader).collect();
        return Person {
            who: format!("root on /dev/{terminal}"),
            programs: programs(processes, &children),
            own: leader.is_some_and(|leader| own.contains(&leader)),
            session,
        };
    }
    let who = format!("{session} by {}", clean(lines.next().unwrap_or("somebody")));
    Person { who, programs: Vec::new(), own: false, session }
}

/// `root from ADDRESS on TERMINAL`, out of the environment that the SSH server gave to a program.
fn remote(proc: &Path, id: u32) -> Option<String> {
    let environment = std::fs::read(proc.join(id.to_string()).join("environ")).ok()?;
    let value = |name: &str| {
        let found = environment
            .split(|byte| *byte == 0)
            .find_map(|word| word.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")))?;
        Some(clean(&String::from_utf8_lossy(found)))
    };
    let address = value("SSH_CONNECTION")?;
    let from = address.split(' ').next()?;
    let terminal = value("SSH_TTY").map(|path| format!(" on {path}")).unwrap_or_default();
    Some(format!("root from {from}{terminal}"))
}

/// The command lines at the ends of the branches: what a person really does, and not the shells before it.
fn programs(processes: &[Process], roots: &[&Process]) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting: Vec<u32> = roots.iter().map(|process| process.id).collect();
    // A process has one parent, so that this ends.
    while let Some(id) = waiting.pop() {
        let children: Vec<u32> =
            processes.iter().filter(|process| process.parent == id).map(|process| process.id).collect();
        if children.is_empty() && found.len() < PROGRAMS {
            found.extend(
                processes.iter().find(|process| process.id == id).map(|process| process.command.clone()),
            );
        }
        waiting.extend(children);
    }
    found.retain(|command| !command.is_empty());
    found.sort();
    found
}

#[derive(Debug)]
struct Process {
    id: u32,
    parent: u32,
    command: String,
}

fn processes(proc: &Path) -> Vec<Process> {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| process(&proc.join(id.to_string()), id)).collect()
}

fn process(folder: &Path, id: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // proc_pid_stat(5): the name is in parentheses, and may have some itself.
    let (_, fields) = stat.rsplit_once(')')?;
    let parent = fields.split_whitespace().nth(1)?.parse().ok()?;
    let command = std::fs::read(folder.join("cmdline")).unwrap_or_default();
    let words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let command = clean(words.collect::<Vec<_>>().join(" ").trim());
    Some(Process { id, parent, command: command.chars().take(60).collect() })
}

/// `me`, its parent, and so on.
fn ancestors(processes: &[Process], me: u32) -> Vec<u32> {
    let mut line = vec![me];
    while let Some(process) = processes.iter().find(|process| line.last() == Some(&process.id)) {
        if process.parent == 0 || line.contains(&process.parent) {
            break;
        }
        line.push(process.parent);
    }
    line
}

fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// Who runs this process, for a mark that others read: `root from 192.0.2.7`, `root on the console`.
pub fn myself(people: &[Person]) -> String {
    let address = std::env::var("SSH_CONNECTION").ok();
    let address = address.as_deref().and_then(|text| text.split(' ').next()).filter(|text| !text.is_empty());
    match address {
        Some(address) => format!("root from {}", clean(address)),
        None => people.iter().find(|person| person.own).map_or("root".into(), |person| person.who.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn make_process(root: &Path, id: u32, parent: u32, command: &str, environment: &str) {
        write(root, &format!("proc/{id}/stat"), &format!("{id} (a) b) S {parent} 1 1"));
        write(root, &format!("proc/{id}/cmdline"), &command.replace(' ', "\0"));
        write(root, &format!("proc/{id}/environ"), &environment.replace(' ', "\0").replace('+', " "));
    }

    #[test]
    fn people_with_what_they_do() {
        let root = tempfile::tempdir().unwrap();
        make_process(root.path(), 40, 1, "rescue sshd-session", "");
        let environment = "A=1 SSH_CONNECTION=192.0.2.7+5000+192.0.2.1+22 SSH_TTY=/dev/pts/0";
        make_process(root.path(), 41, 40, "-sh", environment);
        make_process(root.path(), 42, 41, "rescue write - /dev/sda", "");
        make_process(root.path(), 50, 1, "-sh", "");
        make_process(root.path(), 51, 50, "rescue hold", "");
        write(root.path(), "run/sessions/40", "");
        write(root.path(), "run/sessions/console-ttyS1", "50\n");
        write(root.path(), "run/sessions/hold", "rd.break on the kernel command line\n");
        let run = RunDir::new(root.path().join("run"));
        let people = people_of(&run, &root.path().join("proc"), 51);
        let words: Vec<String> = people.iter().map(Person::describe).collect();
        assert_eq!(
            words,
            [
                "root from 192.0.2.7 on /dev/pts/0: rescue write - /dev/sda",
                "root on /dev/ttyS1: rescue hold",
                "hold by rd.break on the kernel command line",
            ]
        );
        assert_eq!(people.iter().map(|person| person.own).collect::<Vec<_>>(), [false, true, false]);
        assert!(people[2].is_hold());
    }

    #[test]
    fn nobody_where_there_is_no_folder() {
        let root = tempfile::tempdir().unwrap();
        assert!(people(&RunDir::new(root.path())).is_empty());
    }
}
