// What a block tells the host: a kind, the count of the numbers that follow, and these.
#pragma once

namespace agf::shared {

enum class Message {
  begun,  // the run of this number
  point,
  state,
  jump,
  // Records that somebody watches, who then answers.
  seen_point,
  seen_state,  // a point and the state there
  seen_jump,
  over,  // the run: all but its records
};

}  // namespace agf::shared
