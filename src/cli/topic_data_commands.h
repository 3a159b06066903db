// weir topic produce, weir topic consume: in files of their own, added under `weir topic` by
// topic_commands.cc.
#pragma once

namespace CLI {
class App;
}

namespace weir::cli {

void add_topic_produce_command(CLI::App& topic, int* exit_code);
void add_topic_consume_command(CLI::App& topic, int* exit_code);

}  // namespace weir::cli
