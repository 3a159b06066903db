#include "seeds.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/check.h"

namespace weir::sim {
namespace {

using Clock = std::chrono::steady_clock;

struct Worker {
    pid_t pid = -1;
    int to = -1;      // seeds go in, 8 bytes each
    int from = -1;    // outcomes come back
    int errors = -1;  // what it wrote to stderr
    bool busy = false;
    uint64_t seed = 0;
    Clock::time_point since;
};

void write_all(int fd, const void* bytes, size_t size) {
    const auto* at = static_cast<const char*>(bytes);
    while (size > 0) {
        const ssize_t written = write(fd, at, size);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return;
        at += written;
        size -= static_cast<size_t>(written);
    }
}

bool read_all(int fd, void* bytes, size_t size) {
    auto* at = static_cast<char*>(bytes);
    while (size > 0) {
        const ssize_t got = read(fd, at, size);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got;
        size -= static_cast<size_t>(got);
    }
    return true;
}

void send_text(int fd, const std::string& text) {
    const auto size = static_cast<uint32_t>(text.size());
    write_all(fd, &size, sizeof size);
    write_all(fd, text.data(), text.size());
}

bool receive_text(int fd, std::string* text) {
    uint32_t size = 0;
    if (!read_all(fd, &size, sizeof size)) return false;
    text->resize(size);
    return read_all(fd, text->data(), size);
}

[[noreturn]] void work(int from, int to, const std::function<SeedOutcome(uint64_t)>& run) {
    uint64_t seed = 0;
    while (read_all(from, &seed, sizeof seed)) {
        const SeedOutcome outcome = run(seed);
        write_all(to, &outcome.virtual_ns, sizeof outcome.virtual_ns);
        send_text(to, outcome.failure);
        send_text(to, outcome.extra);
    }
    _exit(0);
}

void start(Worker& worker, const std::vector<Worker>& others,
           const std::function<SeedOutcome(uint64_t)>& run) {
    int to[2];
    int from[2];
    CHECK(pipe(to) == 0);
    CHECK(pipe(from) == 0);
    worker.errors = memfd_create("stderr", 0);
    CHECK(worker.errors >= 0);
    worker.pid = fork();
    CHECK(worker.pid >= 0);
    if (worker.pid == 0) {
        for (const Worker& other : others) {
            if (other.to >= 0) close(other.to);
            if (other.from >= 0) close(other.from);
        }
        close(to[1]);
        close(from[0]);
        dup2(worker.errors, STDERR_FILENO);
        work(to[0], from[1], run);
    }
    close(to[0]);
    close(from[1]);
    worker.to = to[1];
    worker.from = from[0];
    worker.busy = false;
}

void stop(Worker& worker) {
    close(worker.to);
    close(worker.from);
    close(worker.errors);
    kill(worker.pid, SIGKILL);
    int status = 0;
    while (waitpid(worker.pid, &status, 0) < 0 && errno == EINTR) {
    }
    worker = Worker{};
}

// The worker closed its pipe: says how it died, with its first words.
std::string cause_of_death(const Worker& worker) {
    int status = 0;
    while (waitpid(worker.pid, &status, 0) < 0 && errno == EINTR) {
    }
    std::string words(4096, '\0');
    const ssize_t got = pread(worker.errors, words.data(), words.size(), 0);
    words.resize(got > 0 ? static_cast<size_t>(got) : 0);
    words.resize(std::min(words.size(),
                          words.find('\n')));  // the rest is a stack, which a replay shows as well
    return fmt::format("died of {}: {}",
                       WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "its exit", words);
}

}  // namespace

void SeedPool::run(const std::vector<uint64_t>& seeds,
                   const std::function<SeedOutcome(uint64_t)>& run,
                   const std::function<bool(const SeedOutcome&)>& done) const {
    signal(SIGPIPE, SIG_IGN);
    std::vector<Worker> workers(std::min<size_t>(std::max(1u, jobs), seeds.size()));
    size_t next = 0;
    size_t left = seeds.size();
    bool go_on = true;
    const auto feed = [&](Worker& worker) {
        worker.busy = next < seeds.size();
        if (!worker.busy) return;
        worker.seed = seeds[next++];
        worker.since = Clock::now();
        write_all(worker.to, &worker.seed, sizeof worker.seed);
    };
    for (Worker& worker : workers) {
        start(worker, workers, run);
        feed(worker);
    }
    while (left > 0 && go_on) {
        std::vector<pollfd> polled;
        for (const Worker& worker : workers)
            polled.push_back({worker.busy ? worker.from : -1, POLLIN, 0});
        (void)poll(polled.data(), polled.size(), 1000);
        for (size_t i = 0; i < workers.size() && go_on; ++i) {
            Worker& worker = workers[i];
            if (!worker.busy) continue;
            SeedOutcome outcome{.seed = worker.seed, .failure = {}, .virtual_ns = 0, .extra = {}};
            const bool late = Clock::now() - worker.since > std::chrono::seconds(seconds_max);
            if ((polled[i].revents & (POLLIN | POLLHUP)) != 0) {
                const bool whole =
                    read_all(worker.from, &outcome.virtual_ns, sizeof outcome.virtual_ns) &&
                    receive_text(worker.from, &outcome.failure) &&
                    receive_text(worker.from, &outcome.extra);
                if (!whole) {
                    outcome.failure = cause_of_death(worker);
                    worker.pid = -1;
                }
            } else if (late) {
                outcome.failure = fmt::format("took more than {} s of real time", seconds_max);
                kill(worker.pid, SIGKILL);
                (void)cause_of_death(worker);
                worker.pid = -1;
            } else {
                continue;
            }
            if (worker.pid < 0) {
                close(worker.to);
                close(worker.from);
                close(worker.errors);
                worker = Worker{};
                start(worker, workers, run);
            }
            --left;
            go_on = done(outcome);
            feed(worker);
        }
    }
    for (Worker& worker : workers) stop(worker);
}

}  // namespace weir::sim
