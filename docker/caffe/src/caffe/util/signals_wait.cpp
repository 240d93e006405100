#include "caffe/util/signals_wait.hpp"

namespace caffe {

static sigset_t those_that_can_wait() {
  sigset_t signals;
  sigfillset(&signals);
  for (int its_own : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS,
                      SIGTRAP}) {
    sigdelset(&signals, its_own);
  }
  return signals;
}

static void block(sigset_t* before) {
  static const sigset_t signals = those_that_can_wait();
  pthread_sigmask(SIG_BLOCK, &signals, before);
}

SignalsWait::SignalsWait() {
  block(&before_);
}

SignalsWait::~SignalsWait() {
  pthread_sigmask(SIG_SETMASK, &before_, NULL);
}

void SignalsWait::Always() {
  block(NULL);
}

}  // namespace caffe
