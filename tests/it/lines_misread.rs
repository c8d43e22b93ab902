//! Lines that shells read in other ways than they look: no wide rule may let them through.

use crate::lines::{forbidden, let_through};

/// Lines that make a file `M` under some shell, though nothing that they show says so.
#[test]
fn what_a_shell_may_read_in_another_way_is_let_through_by_no_wide_rule() {
    for (line, rules) in [
        // Values that are evaluated as code.
        ("x='$(touch M)'; echo ${x@P}", "echo *"),
        ("x='b[$'; y='(touch M)]'; [[ $x$y -eq 0 ]]; echo hi", "echo *"),
        ("x='b[$'; y='(touch M)]'; z=$x$y; echo ${a[z]}", "echo *"),
        ("x='b[$'; y='(touch M)]'; z=$x$y; echo ${!z}", "echo *"),
        ("x='b[$'; y='(touch M)]'; z=$x$y; echo ${x:z}", "echo *"),
        ("printf -v \"$z\" a", "printf *"),
        ("printf \"$z\" \"$y\" a", "printf *"),
        ("command printf -v \"$z\" a", "printf *"),
        ("builtin read \"$z\"", "read *"),
        ("test -v \"$z\"", "test *"),
        ("[ $z ]", "[*"),
        ("[ \"$z\" \"$y\" ]", "[*"),
        ("let x=y", "let *"),
        ("declare \"$z\"", "declare *"),
        ("read \"$z\"", "read *"),
        ("cat <<E\n$\\\n(touch M)\nE", "*"),
        ("cat <<E\n${x@P}\nE", "*"),
        ("echo hi >&'/tmp/out/$(touch M)'", "*"),
        // What is a comment to some.
        ("echo <(echo a)#; touch M", "echo *"),
        ("x=1; echo $${x:-\n\ntouch M\n}", "echo *"),
        ("x=1; echo case x in $${x\ntouch M\n}", "echo *"),
        // Several words where one is seen.
        ("x='5 touch M'; nice -n $x ls .", "ls *"),
        ("x='KILL 5 touch M'; timeout -s $x 5 ls", "ls*"),
        ("stdbuf -o $x ls", "ls*"),
        ("echo a | xargs -n $x echo", "echo *"),
        ("x=c; find . -maxdepth 0 -exe$x touch M \\;", "find *"),
        ("find . -name a$x", "find *"),
        ("find . -exec echo {} $s -exec touch M \\;", "*o *"),
        ("git -C $x status", "git *"),
        ("git ls-remote \"$x\" .", "git *"),
        // Other shells.
        ("echo hi &>/dev/null touch M", "echo *"),
        ("echo $'a\\'; touch M #'", "echo *"),
        ("echo a; [[ b > M ]]", "echo *"),
        ("echo $[1;touch M;n ]", "echo *"),
        ("echo a; ((1>2))", "echo *"),
        // What an interpreter reads.
        ("python3 <<'E'\nopen('M', 'w')\nE", "python3"),
        ("python3 <<< 'open(1)'", "python3"),
        // Variables.
        ("XDG_CONFIG_HOME=/tmp/xdg git status", "git *"),
        ("TAR_OPTIONS='--checkpoint=1' tar cf x y", "tar *"),
        ("RUSTC_WRAPPER=/tmp/x cargo build", "cargo *"),
        // Git and xargs.
        ("git clone -c core.sshCommand='touch M' ssh://localhost/x d", "git *"),
        ("git clone -u 'touch M' . d", "git *"),
        ("git clone -qu 'touch M' . d", "git *"),
        ("git ls-remote --upload-pac='touch M' .", "git *"),
        ("git rebase --exe 'touch M' HEAD~1", "git *"),
        ("git rebase -i HEAD~1", "git *"),
        ("git difftool -yx 'touch M' HEAD~1", "git *"),
        ("git config core.fsmonitor 'touch M'", "git *"),
        ("git grep -O'touch M' x", "git *"),
        ("git submodule --quiet foreach 'touch M'", "git *"),
        ("git unknown", "git *"),
        ("xargs git", "git *"),
        ("xargs git status", "git *"),
        ("xargs env", "env *"),
        ("xargs sudo", "sudo *"),
        ("xargs timeout 5", "timeout *"),
        // Files.
        ("echo hi > /tmp/$X", "> /tmp/*"),
        ("cat < /tmp/$X", "< /tmp/*"),
        ("echo hi > out/$X", "> out/*"),
        ("X=cd; $X /etc; echo a > passwd", "> passwd"),
        (". ./there; echo a > passwd", "> passwd"),
        ("echo hi > /tmp/../etc/x", "> /tmp/*"),
        // A shell's file, and what comes in.
        ("bash ./evil.sh -c 'ls /'", "ls /"),
        ("bash --rcfile ./evil -ic 'ls /'", "ls /"),
        ("su -s ./evil -c 'ls /'", "ls /"),
        ("su root ./evil -c 'ls /'", "ls /"),
        ("bash -s a", "bash *"),
        ("bash /dev/stdin", "bash *"),
        ("sh /dev/fd/0", "sh *"),
        ("bash /tmp/../proc/self/fd/0", "bash *"),
        (". /dev/stdin", ". *"),
        ("zsh -c 'ls /'", "ls /"),
        // What the parser hands out as text.
        ("echo \"$(cat <<E\n(\nE\ntouch M\n)\"", "echo *"),
        ("echo \"`echo \\\"'\\\"; touch M; echo \\\"'\\\"`\"", "echo *"),
        ("cat <<E; echo $(touch M)\nh\nE\n", "*"),
        ("cat <<E\na\\\nE\n# $(touch M)\n", "*"),
        // Wrappers that write, or change what runs.
        ("/usr/bin/time -f 'touch M' -o .profile ls /", "ls /"),
        ("time -f %e -o f ls /", "ls /"),
        ("flock newfile ls /", "ls /"),
        ("chroot /tmp/evil ls /", "ls /"),
        ("sudo -R /tmp/evil ls /", "ls /"),
        ("env -u PATH ls /", "ls /"),
        ("env -C /tmp/evil ls /", "ls /"),
        ("DEBIAN_FRONTEND='noninteractive;BEGIN{system(q(touch M))};#' apt-get install jq", "apt-get *"),
        ("LANGUAGE=../../x ls /", "ls /"),
        ("TERM=../x ls /", "ls /"),
        // Builtins that make names of commands.
        ("alias q=touch\nq M", "*"),
        ("hash -p /usr/bin/touch q; q M", "*"),
        ("compgen -W '$(touch M)' a", "compgen *"),
        ("mapfile -C 'touch M #' -c 1 a", "mapfile *"),
        ("printf -v PATH /evil; ls /", "printf *"),
        // Variables that are evaluated, or that redirections and builtins set.
        ("Y='a[$'; Y=\"$Y(touch M)]\"; RANDOM=$Y; echo hi", "echo *"),
        ("Y='a[$'; Y=\"$Y(touch M)]\"; for RANDOM in \"$Y\"; do echo hi; done", "echo *"),
        ("Y='a[$'; Y=\"$Y(touch M)]\"; echo {a[Y]}>/dev/null", "echo *"),
        ("echo {PATH}>/dev/null; ls -l", "*"),
        ("X='touch M'; A+=/../../usr/bin/$X; echo hi", "echo *"),
        ("X='touch M'; A[0]=/../../usr/bin/$X; echo hi", "echo *"),
        ("X='touch M'; time A=/../../usr/bin/$X; echo hi", "echo *"),
        ("X=-v; test ! \"$X\" \"$Y\"", "test *"),
        ("X=-v; [ ! \"$X\" \"$Y\" ]", "[ *"),
        ("bash -c 'test \"$@\" = x' x -v \"$Y\"", "test *"),
        ("bash -c 'git merge -m \"$@\"' x msg -s foo", "git *"),
        ("echo 1 | read 'a[Y]'", "*"),
        ("unset 'a[Y]'", "unset *"),
        ("printf 'aa%n' PATH; ls -l", "*"),
        ("while read PATH; do ls -l; done", "*"),
        ("bash -ac 'FOO=1; git log'", "git *"),
        // Files where the folder is another one.
        ("find d -name z -execdir sh -c 'echo hi > y' \\;", "*"),
        ("sudo -i bash -c 'echo hi > y'", "> y"),
        ("su - -c 'echo hi > y'", "> y"),
        ("echo x > /proc/self/root/etc/passwd", "> /proc/*"),
        // Git, once more.
        ("find . -exec git grep -e + '-Otouch M' \\;", "git *"),
        ("git rebase -m \"$X\" HEAD~1", "git *"),
        ("git fetch -o -- '--upload-pack=touch M;' .", "git *"),
        ("git push -o -- '--receive-pack=touch M;' . main", "git *"),
        ("git clone -b -- '--upload-pack=touch M;' ./. other", "git *"),
        ("git grep -A1 -e -- -e 3 '-Otouch M'", "git *"),
        ("git rebase -s -- '--exec=touch M' HEAD~1", "git *"),
        ("git cherry-pick --strategy=x/../evil side", "git *"),
        ("git log -1 --format=x --output=.git/config", "git *"),
        ("git archive -o M HEAD", "git *"),
        ("git commit -C -m \"$X\"", "git *"),
        ("echo hi > ../x", "*"),
        ("cd /etc; echo hi > x", "*"),
    ] {
        for rule in [rules, "ls *"] {
            assert!(!let_through(line, rule), "{line} by {rule}");
        }
    }
    for (line, rule) in [
        ("echo > /tmp/../etc/x", "> /etc/*"),
        ("echo > //etc/x", "> /etc/*"),
        ("git -C . push", "git push*"),
        ("git --no-pager push origin", "git push*"),
        ("sudo git -C . push", "git push*"),
        ("//usr/bin/git -C . push", "git push*"),
    ] {
        assert!(forbidden(line, rule), "{line} by {rule}");
    }
}
