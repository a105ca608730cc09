// How threads wait between parallel regions.
#pragma once

namespace mora::apps {

// Makes idle threads spin for some microseconds only and then sleep. OpenMP's default is to spin
// for long: on a machine that others use, too, every parallel region then waits for a time slice
// (seven times slower was seen). The OpenMP runtime reads its settings when the program is loaded,
// so this starts the program once more; it returns at once when the settings are there, the user's
// own included.
void settle_waiting(char** argv);

}  // namespace mora::apps
