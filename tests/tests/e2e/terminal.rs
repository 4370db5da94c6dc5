//! Containers on a real pseudo-terminal.

use corten_tests::Pty;

use crate::fixture::Fixture;

#[test]
fn a_shell_on_a_terminal_answers_and_is_resized() {
    let Some(fixture) = Fixture::new() else { return };
    let id = fixture.daemon.container("tty");
    let command = fixture.ctr.command(&fixture.words("run", &["--rm", "-t"], &id, &["sh"]));
    let mut terminal = Pty::spawn(command).unwrap();
    // What is typed before the program has set up its terminal may be lost.
    terminal.wait_for("# ").unwrap();
    terminal.type_in("echo $((6*7))\n").unwrap();
    terminal.wait_for("42").unwrap();
    terminal.type_in("stty size\n").unwrap();
    terminal.wait_for("24 80").unwrap();
    terminal.resize(33, 111).unwrap();
    corten_tests::eventually("the shell to see the new size", || {
        terminal.type_in("stty size\n").unwrap();
        terminal.wait_for("stty").unwrap();
        terminal.shown().contains("33 111").then_some(())
    })
    .unwrap();
    terminal.type_in("exit 5\n").unwrap();
    assert_eq!(terminal.wait().unwrap().code(), Some(5));
    fixture.finish();
}

#[test]
fn an_exec_on_a_terminal_answers() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.detached(&[], "host", &["sleep", "1000"]);
    let command = fixture.ctr.command(&["tasks", "exec", "-t", "--exec-id", "shell", "host", "sh"]);
    let mut terminal = Pty::spawn(command).unwrap();
    terminal.wait_for("# ").unwrap();
    terminal.type_in("tty; echo $((6*7))\n").unwrap();
    terminal.wait_for("42").unwrap();
    assert!(terminal.shown().contains("/dev/pts/"), "{}", terminal.shown());
    terminal.type_in("exit 4\n").unwrap();
    assert_eq!(terminal.wait().unwrap().code(), Some(4));
    fixture.remove("host");
    fixture.finish();
}
