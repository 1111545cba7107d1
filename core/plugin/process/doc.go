// Package process starts, limits, watches and ends a child process together with everything that it starts.
//
// # Nobody is left behind
//
// A child runs in a process group of its own whose first member is a guard: a shell of four lines that ignores signals,
// waits for the end of a pipe that only the host holds, and then kills the group and the child's cgroup. So the tree ends
// when the host does, however it does, also after SIGKILL. The guard costs about 0.1 MB of private memory. As it is the
// leader of the group, and is collected last, the number of the group cannot come to mean another one. The child itself
// also has a parent-death signal, and stdin is a pipe whose end tells it that the host is gone. Pdeathsig fires when the
// thread that forked ends, so one locked thread, which never ends, starts all children.
//
// A PID namespace would also do this, and was measured and dropped. It needs CAP_SYS_ADMIN, which containers and services
// rarely have, and changes what the child sees: it is process 1, so signals without a handler do not end it (a Python
// program survives its own SIGTERM), orphans stay as zombies that count against the limit, and as /proc is still the
// host's, a program that looks itself up by its number (psutil) reads about another process. An init for each child, with
// a mount of /proc, would mend that at a greater cost than the guard's.
//
// What can be left: a descendant that made a session of its own, where there is no cgroup that this process may write and
// its parent ended before it was seen (descendants are noted each second). There, and where there is only v1, one that left
// the group also survives a host's SIGKILL; with v1 Sweep of the next start ends it. Applied.Tree tells operators which
// way they have.
//
// # Limits
//
// Cgroup v2 where the group is delegated, v1 where it is mounted so, else prlimit and a watch. A child is in its group
// from the first instruction: CLONE_INTO_CGROUP for v2; for v1 the locked thread enters the group for as long as the fork
// takes. Resource limits are set on the process right after exec, and on what it may have started until then; this
// leaves some microseconds. That is enough for limits that stop mistakes, and a privileged child can raise them anyway.
//
// RLIMIT_AS is not used: Go reserves address space freely and does not start under 256 MiB, nor does Node. RLIMIT_DATA lets
// Go and Python start and stops both, but counts what is mapped and not what is used (thirty threads of Python are
// 256 MiB of stacks). So the memory that is resident is watched, and RLIMIT_DATA, set well above the limit, catches a
// child that grows between two looks. RLIMIT_NPROC is not used: it counts all threads of the user, the host's also, and
// does not hold for root; without a pids controller the number of threads is watched, and the whole group killed at once.
package process
