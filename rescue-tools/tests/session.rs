//! What a login can do, and what is left of it: OpenSSH's client against `rescue sshd`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use common::{Server, children, code, is_alive, output, read_all, signal, text, type_line, until, wait};

#[test]
fn commands_have_their_status_and_two_outputs() {
    let server = Server::start();
    let out = server.exec("echo out; echo err >&2; exit 7");
    assert_eq!(
        (text(&out.stdout).as_str(), text(&out.stderr).as_str(), code(&out)),
        ("out\n", "err\n", Some(7))
    );
    // OpenSSH's client tells of a signal in its debug output alone.
    let out = output(server.ssh().args(["-v", "kill -TERM $$"]));
    assert_eq!(code(&out), Some(255));
    assert!(text(&out.stderr).contains("exit-signal"), "{}", text(&out.stderr));
    let out = server.exec("no-such-program");
    assert_eq!(code(&out), Some(127));
    server.wait_for_no_session();
}

#[test]
fn a_command_has_the_environment_of_root() {
    let server = Server::start();
    let mut ssh = server.ssh();
    ssh.args(["-o", "SendEnv=LC_TEST SECRET"]).env("LC_TEST", "de").env("SECRET", "x").arg("env; pwd");
    let out = text(&output(&mut ssh).stdout);
    for line in [
        "HOME=/root",
        "USER=root",
        "LOGNAME=root",
        "SHELL=/bin/sh",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_TEST=de",
    ] {
        assert!(out.lines().any(|have| have == line), "{line}: {out}");
    }
    assert!(
        out.contains("SSH_CONNECTION=127.0.0.1 ")
            && out.contains(&format!(" 127.0.0.1 {}\n", server.address.port()))
    );
    assert!(!out.contains("SECRET") && !out.contains("CARGO") && !out.contains("SSH_TTY"), "{out}");
}

#[test]
fn the_end_of_the_input_reaches_the_program() {
    let server = Server::start();
    let mut ssh =
        server.ssh().arg("wc -c; echo done").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    type_line(&mut ssh, "four");
    drop(ssh.stdin.take());
    assert_eq!(text(&read_all(ssh.stdout.as_mut().unwrap())), "4\ndone\n");
    assert!(wait(&mut ssh).success());
}

/// ssh on a terminal of 100 columns and 30 rows, which script(1) makes.
fn on_terminal(server: &Server, line: &str) -> Command {
    let mut words = vec!["ssh".to_string()];
    words.extend(server.options());
    words.extend(["-tt".into(), "root@127.0.0.1".into(), format!("'{line}'")]);
    let mut script = Command::new("script");
    let inside = format!("stty cols 100 rows 30 -ixon; {}", words.join(" "));
    script.args(["-qec", &inside, "/dev/null"]).env("TERM", "vt220").env("SHELL", "/bin/sh");
    script
}

#[test]
fn a_terminal_has_size_modes_and_name() {
    let server = Server::start();
    let line = "stty size; echo $TERM; tty; echo $SSH_TTY; stty -a | grep -o -e -ixon";
    let out = output(on_terminal(&server, line).stdin(Stdio::piped()));
    let shown = text(&out.stdout);
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    assert_eq!(lines.get(..2), Some(["30 100", "vt220"].as_slice()), "{shown}");
    assert!(lines[2].starts_with("/dev/pts/") && lines[2] == lines[3], "{shown}");
    assert_eq!(lines[4], "-ixon", "{shown}");
}

#[test]
fn a_new_size_reaches_the_program() {
    let server = Server::start();
    let mut ssh =
        on_terminal(&server, "trap \"stty size; exit 0\" WINCH; echo ready; while :; do sleep 0.1; done")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let mut shown = BufReader::new(ssh.stdout.take().unwrap());
    let mut line = String::new();
    shown.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "ready");
    // The terminal of the ssh below script gets another size, as by a window that is drawn larger.
    let client = descendant(ssh.id(), "ssh");
    let terminal = std::fs::read_link(format!("/proc/{client}/fd/0")).unwrap();
    let set = Command::new("stty")
        .args(["cols", "77"])
        .stdin(std::fs::File::open(terminal).unwrap())
        .status()
        .unwrap();
    assert!(set.success());
    line.clear();
    shown.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "30 77");
    wait(&mut ssh);
}

fn descendant(id: u32, name: &str) -> u32 {
    let is =
        |id: u32| std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == name);
    let mut level = children(id);
    while !level.is_empty() {
        if let Some(found) = level.iter().find(|id| is(**id)) {
            return *found;
        }
        level = level.into_iter().flat_map(children).collect();
    }
    panic!("there is no {name} below {id}");
}

#[test]
fn a_login_sees_the_status_and_a_login_shell() {
    let server = Server::start();
    let mut ssh = server.ssh().arg("-tt").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    type_line(&mut ssh, "echo shell=$0; exit 5\n");
    let shown = text(&read_all(ssh.stdout.as_mut().unwrap()));
    assert_eq!(wait(&mut ssh).code(), Some(5));
    assert!(shown.contains("Host key") && shown.contains(&server.fingerprint), "{shown}");
    assert!(shown.contains("shell=-sh\r\n"), "{shown}");
}

#[test]
fn several_channels_share_a_connection() {
    let server = Server::start();
    let control = server.path("control");
    let mut master = server.ssh();
    master.args(["-M", "-N", "-S"]).arg(&control).stdin(Stdio::null());
    let mut master = master.spawn().unwrap();
    until("no master", || control.exists());
    let shared = |line: &str| {
        let mut ssh = server.ssh();
        ssh.arg("-S").arg(&control).arg(line).stdout(Stdio::piped()).stdin(Stdio::piped());
        ssh.spawn().unwrap()
    };
    // One whose program never reads what it is sent …
    let mut stuck = shared("exec sleep 1000");
    let mut input = stuck.stdin.take().unwrap();
    let flood = std::thread::spawn(move || std::io::copy(&mut std::io::repeat(1).take(64 << 20), &mut input));
    // … does not hold up the others.
    for number in 0..5 {
        let out = shared(&format!("echo {number}")).wait_with_output().unwrap();
        assert_eq!(text(&out.stdout), format!("{number}\n"));
    }
    assert_eq!(server.sessions().len(), 1);
    signal(stuck.id(), "TERM");
    wait(&mut stuck);
    let _ = flood.join();
    signal(master.id(), "TERM");
    wait(&mut master);
    server.wait_for_no_session();
}

#[test]
fn a_client_that_is_killed_leaves_nothing() {
    let server = Server::start();
    for terminal in ["-T", "-tt"] {
        let mut ssh = server.ssh();
        ssh.args([terminal, "echo $$; exec sleep 1000"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut ssh = ssh.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(ssh.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let id: u32 = line.trim().parse().unwrap();
        assert!(is_alive(id));
        let session = server.sessions();
        assert_eq!(session.len(), 1);
        assert!(server.run("sessions").join(session[0].to_string()).exists());
        ssh.kill().unwrap();
        ssh.wait().unwrap();
        until("the program is left", || !is_alive(id));
        server.wait_for_no_session();
    }
}

#[test]
fn a_session_that_dies_ends_alone() {
    let server = Server::start();
    for terminal in ["-T", "-tt"] {
        let mut ssh = server.ssh();
        ssh.args([terminal, "echo ready; exec sleep 1000"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut ssh = ssh.spawn().unwrap();
        BufReader::new(ssh.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let session = server.sessions()[0];
        let program = children(session)[0];
        signal(session, "KILL");
        assert_eq!(wait(&mut ssh).code(), Some(255));
        until("the program is left", || !is_alive(program));
        server.wait_for_no_session();
    }
    assert_eq!(code(&server.exec("true")), Some(0));
}

#[test]
fn a_client_that_answers_no_more_is_given_up() {
    let server = Server::start_with(&["--client-alive-interval", "1"]);
    let mut ssh = server.ssh();
    ssh.args(["echo ready; exec sleep 1000"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ssh = ssh.spawn().unwrap();
    BufReader::new(ssh.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let program = children(server.sessions()[0])[0];
    // Its kernel still takes what we send: only the questions tell.
    signal(ssh.id(), "STOP");
    until("the program is left", || !is_alive(program));
    server.wait_for_no_session();
    ssh.kill().unwrap();
    wait(&mut ssh);
}

/// A client that sends what OpenSSH's does not: signals, and a break.
const ASYNCSSH: &str = r#"
import asyncio, asyncssh, sys
async def main(port, key):
    options = dict(port=int(port), username="root", client_keys=[key], known_hosts=None, config=None, agent_path=None)
    async with asyncssh.connect("127.0.0.1", **options) as connection:
        for name in sys.argv[3:]:
            line = "trap 'echo " + name + "; exit 3' " + name + "; echo ready; while :; do sleep 0.05; done"
            process = await connection.create_process(line)
            assert await process.stdout.readline() == "ready\n"
            process.send_signal(name)
            assert await process.stdout.read() == name + "\n"
            await process.wait()
            assert process.exit_status == 3, process.exit_status
        process = await connection.create_process("exec sleep 1000")
        process.send_signal("KILL")
        await process.wait()
        assert process.exit_signal[0] == "KILL", process.exit_signal
        process = await connection.create_process("echo ready; read line; echo $line", term_type="vt220")
        await process.stdout.readline()
        process.send_break(100)
        process.stdin.write("still here\n")
        assert "still here" in await process.stdout.read()
asyncio.run(asyncio.wait_for(main(*sys.argv[1:3]), 50))
"#;

#[test]
fn signals_reach_the_program_and_a_break_ends_nothing() {
    let server = Server::start();
    // Not another Python in PATH: the package is for this one.
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", ASYNCSSH, &server.address.port().to_string()]).arg(server.path("id"));
    let out = output(python.args(["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"]).stdin(Stdio::null()));
    assert_eq!(code(&out), Some(0), "{}", text(&out.stderr));
}

#[test]
fn sighup_ends_nothing() {
    let server = Server::start();
    let mut ssh = server.ssh();
    ssh.args(["echo ready; read line; echo $line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ssh = ssh.spawn().unwrap();
    let mut shown = BufReader::new(ssh.stdout.take().unwrap());
    shown.read_line(&mut String::new()).unwrap();
    signal(server.sessions()[0], "HUP");
    signal(server.child.id(), "HUP");
    type_line(&mut ssh, "still here\n");
    assert_eq!(text(&read_all(&mut shown)), "still here\n");
    assert!(wait(&mut ssh).success());
    assert_eq!(code(&server.exec("kill -HUP $$; echo here")), Some(255));
}

#[test]
fn sigterm_says_goodbye_and_ends() {
    let mut server = Server::start();
    let mut ssh = server.ssh();
    ssh.args(["-tt", "echo ready; exec sleep 1000"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ssh = ssh.spawn().unwrap();
    let mut shown = BufReader::new(ssh.stdout.take().unwrap());
    shown.read_line(&mut String::new()).unwrap();
    let program = children(server.sessions()[0])[0];
    assert!(server.terminate().success());
    assert!(
        text(&read_all(&mut shown)).contains("The machine is handing over to the OS: this session ends.\r\n")
    );
    assert_eq!(wait(&mut ssh).code(), Some(255));
    until("the program is left", || !is_alive(program));
}

#[test]
fn sessions_outlive_a_listener_that_is_killed() {
    let mut server = Server::start();
    let mut ssh = server.ssh();
    ssh.args(["echo ready; read line; echo $line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ssh = ssh.spawn().unwrap();
    let mut shown = BufReader::new(ssh.stdout.take().unwrap());
    let mut line = String::new();
    shown.read_line(&mut line).unwrap();
    server.child.kill().unwrap();
    wait(&mut server.child);
    // The listener after it does not disturb them, and sweeps what is left of others.
    std::fs::write(server.run("sessions/4194305"), "").unwrap();
    let session: Vec<_> =
        std::fs::read_dir(server.run("sessions")).unwrap().map(|entry| entry.unwrap().path()).collect();
    server.restart();
    assert!(!server.run("sessions/4194305").exists());
    assert!(session.iter().any(|path| path.exists()), "{session:?}");
    type_line(&mut ssh, "still here\n");
    line.clear();
    shown.read_line(&mut line).unwrap();
    assert_eq!(line, "still here\n");
    assert!(wait(&mut ssh).success());
}
