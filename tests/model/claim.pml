/* Claim, lease, launch, result, filing, recovery and takeover of one spec, as `spool.py`, `supervisor.py`, `filing.py`,
   `recovery.py` and `takeover.py` do it on one directory that NODES nodes see. `python3 -m tests.model` checks it;
   `docs/model.md` says what it shows and what not.

   One step is one call on the file system. Whatever may be read between two calls is read anew. Crashes, a node that is cut
   off, a worker that is stopped and answers that lie come at every step, each as often as its number below says.

   A switch set to 0 takes one rule out: the variants in `__main__.py`, each of which must be found wrong.                */

#ifndef NODES
#define NODES 2
#endif
#ifndef TOKENS
#define TOKENS 3         /* claims that can be in somebody's hands at once; a name that nobody knows any more is drawn again */
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2       /* what the spec allows: the last lost attempt goes to failed/ */
#endif
#ifndef KILLS
#define KILLS 1          /* of a worker, a supervisor */
#endif
#ifndef REBOOTS
#define REBOOTS 0        /* of a node with all that runs there */
#endif
#ifndef CUTS
#define CUTS 0           /* a node is cut off for longer than its lease: its locks are gone, its jobs run on */
#endif
#ifndef STOPS
#define STOPS 0          /* a worker is stopped or hangs: its heartbeat stands still, its locks stay */
#endif
#ifndef PUTBACKS
#define PUTBACKS 0       /* a claimed spec was not quiet after all */
#endif
#ifndef LIES
#define LIES 0           /* a rename that happened is answered with "no such file" */
#endif
#ifndef SHARED
#define SHARED 1         /* a lock taken on one node keeps the others out */
#endif
#ifndef TAKEOVER
#define TAKEOVER 1       /* nodes take over what a silent node left, by the rule */
#endif
#ifndef WORD
#define WORD 0           /* a person says of a node that it is dead, and may be wrong: no heartbeat is watched */
#endif

/* The rules that the variants take out. */
#ifndef UNIQUE
#define UNIQUE 1         /* a running record's name is drawn for each claim. 0: it is the job's */
#endif
#ifndef NEW_NAME
#define NEW_NAME 1       /* a takeover renames the record to a name of its own before it judges. 0: it judges under the old one */
#endif
#ifndef LEASE_FIRST
#define LEASE_FIRST 1    /* a claim takes its lease before it can be seen. 0: afterwards */
#endif
#ifndef RECOVERY_LEASE
#define RECOVERY_LEASE 1 /* recovery takes the lease of what it judges. 0: it only reads claim and process table */
#endif
#ifndef TAKEOVER_LEASE
#define TAKEOVER_LEASE 1 /* takeover takes the lease. 0: a silent heartbeat is enough */
#endif
#ifndef WATCH
#define WATCH 1          /* takeover waits until the heartbeat stands still. 0: a free lease is enough */
#endif
#ifndef RESULT_FIRST
#define RESULT_FIRST 1   /* the result is written before the record is filed. 0: after */
#endif
#ifndef LOOK_FOR_TARGET
#define LOOK_FOR_TARGET 1 /* who has won a claim is told by its target. 0: the answer to the rename is believed and cleaned up after */
#endif
#ifndef INHERIT
#define INHERIT 1        /* the job inherits the lease. 0: it ends with its supervisor */
#endif
#ifndef NOTE
#define NOTE 1           /* the supervisor notes itself in the lock file before it starts the job. 0: after */
#endif

#define NO 99            /* nobody */
#define RECOVERY 50      /* + node: recovery of that node holds the lock */
#define NONE 0           /* results, and where they say that the record goes */
#define DONE 1
#define FAILED 2
#define WAITING 3

/* -- on disk */
bool root = 1;           /* the spec waits in the root */
bool waiting = 0;        /* the record waits for its next attempt */
byte filed = 0;          /* done/ and failed/ */
bool rec[TOKENS];        /* running/<name> exists */
bool spec[TOKENS];       /* with the spec in it */
bool claimed[TOKENS];    /* and claim.toml of this very attempt */
byte res[TOKENS];        /* and a result: where it says that the record goes */
byte noted[TOKENS];      /* its lock file names: nobody, the supervisor (1), its job too (2) */
byte procs[TOKENS];      /* the processes that its lock file names are this claim's */
byte node_of[TOKENS];    /* the claim names this node */
bool rebooted[TOKENS];   /* that node has another boot id by now */
byte lk[NODES * TOKENS]; /* who holds the lock of this name, as each node sees it */

/* -- processes, by the claim that they work for */
bool holds[TOKENS];      /* the claimer still has its descriptor */
bool sup[TOKENS];        /* the supervisor lives */
bool job[TOKENS];        /* the job lives */
bool deaf[TOKENS];       /* it has closed what it inherited, the lease too */
bool launched[TOKENS];
byte at[TOKENS];         /* the node where all that is */
bool cut[NODES], stopped[NODES], was_silent[NODES];
bool kill_worker[NODES], kill_recovery[NODES], kill_sup[TOKENS];

/* -- known to us alone */
byte mine[TOKENS];       /* whose claim the record of this name is */
bool excused[TOKENS];    /* another attempt may start beside this one: the price of a takeover, as documented */
byte looks_at[NODES];    /* the name that recovery of this node has in mind: not to be drawn again */
byte starts = 0;         /* counted attempts */
byte kills = 0, reboots = 0, cuts = 0, stops = 0, putbacks = 0, lies = 0, words = 0;

#if SHARED
#define LOCK(n, d) lk[d]
#else
#define LOCK(n, d) lk[(n) * TOKENS + d]
#endif
#if UNIQUE
#define NAME(t) t
#else
#define NAME(t) 0
#endif
#define CAN(n) (!cut[n] && !stopped[n])
#define HELD(t) (holds[t] || sup[t] || (job[t] && INHERIT && !deaf[t]))
#define UNLOCKED(d) (lk[d] == NO && (SHARED || NODES == 1 || lk[(NODES - 1) * TOKENS + (d)] == NO))
#define NAMED(d, t) (rec[d] && procs[d] == t)
#define UNUSED(t) (!NAMED(0, t) && !NAMED(1, t) && !NAMED(2, t) && looks_at[0] != t && looks_at[NODES - 1] != t && !rec[t] && !holds[t] && !sup[t] && !job[t] && !launched[t] && UNLOCKED(t))
#if TOKENS == 3
#define ANY_UNUSED (UNUSED(0) || UNUSED(1) || UNUSED(2))
#define SPECS (spec[0] + spec[1] + spec[2])
#else
#define ANY_UNUSED (UNUSED(0) || UNUSED(1) || UNUSED(2) || UNUSED(3))
#define SPECS (spec[0] + spec[1] + spec[2] + spec[3])
#endif

/* Promise 1. After every move the spec is in exactly one place. */
inline nothing_is_lost() { assert(root + waiting + filed + SPECS == 1) }

inline draw(t) {
  t = 0;
  do
  :: UNUSED(t) -> break
  :: else -> t++
  od
}

inline let_go(t) {
  if
  :: !HELD(t) && LOCK(at[t], NAME(t)) == t -> LOCK(at[t], NAME(t)) = NO
  :: else
  fi
}

inline unlock(n, d, who) {
  if
  :: LOCK(n, d) == who -> LOCK(n, d) = NO
  :: else
  fi
}

/* A new name, and its lease: what every claim begins with. */
inline take_new(t, n) {
  draw(t);
  at[t] = n; holds[t] = 1; deaf[t] = 0; excused[t] = 0; noted[NAME(t)] = 0; procs[NAME(t)] = t;
  if
  :: LEASE_FIRST && LOCK(n, NAME(t)) == NO -> LOCK(n, NAME(t)) = t
  :: else
  fi
}

inline write_claim(d, n) { claimed[d] = 1; node_of[d] = n; rebooted[d] = 0 }

inline wipe(d) { rec[d] = 0; spec[d] = 0; claimed[d] = 0; res[d] = NONE; noted[d] = 0; mine[d] = NO }

/* What is filed says where it is. After a wrong word about a node whose locks are private two may judge at once. */
inline agree(d, state) { assert(res[d] == state || (WORD && !SHARED)) }

/* One rename out of running/: the source name is the fence. `state` is where to. */
inline move_out(d, state) {
  assert(spec[d]);
  wipe(d);
  if
  :: state == WAITING -> waiting = 1
  :: else -> filed++
  fi;
  nothing_is_lost()
}

/* -- the worker: claims, puts back, launches */

proctype worker(byte n) {
  byte t = NO;
  bool won = 0;
end_idle:
  {
end_loop:
    do
    :: atomic { CAN(n) && root && ANY_UNUSED && (UNIQUE || LOCK(n, 0) == NO) -> take_new(t, n) };
       atomic { CAN(n) -> rec[NAME(t)] = 1; write_claim(NAME(t), n); res[NAME(t)] = NONE };
       atomic {                                                   /* rename the spec into the record */
         CAN(n) ->
         if
         :: root && rec[NAME(t)] -> root = 0; spec[NAME(t)] = 1; mine[NAME(t)] = t; won = 1; nothing_is_lost();
            if
            :: lies < LIES -> lies++; won = 0                     /* done, and answered: no such file */
            :: true
            fi
         :: else -> won = 0
         fi
       };
       atomic {
         CAN(n) ->
         if
         :: LOOK_FOR_TARGET -> won = spec[NAME(t)]
         :: else
         fi;
         if
         :: won -> assert(!spec[NAME(t)] || mine[NAME(t)] == t)    /* never two holders of one claim */
         :: !won && (LOOK_FOR_TARGET || !spec[NAME(t)]) && mine[NAME(t)] == t -> wipe(NAME(t))
         :: !won && !LOOK_FOR_TARGET && spec[NAME(t)] -> wipe(NAME(t)); nothing_is_lost()
         :: else ->
            if
            :: !spec[NAME(t)] -> wipe(NAME(t))
            :: else
            fi
         fi
       };
       if
       :: atomic { !won -> holds[t] = 0; let_go(t); t = NO }
       :: atomic { won && putbacks < PUTBACKS && CAN(n) ->         /* not quiet: back under its own name */
            putbacks++;
            if
            :: spec[NAME(t)] -> spec[NAME(t)] = 0; root = 1; nothing_is_lost()
            :: else
            fi };
          atomic { CAN(n) && !spec[NAME(t)] -> wipe(NAME(t)); holds[t] = 0; let_go(t); t = NO }
       :: atomic { won && CAN(n) && !LEASE_FIRST ->
            if
            :: LOCK(n, NAME(t)) == NO -> LOCK(n, NAME(t)) = t
            :: else
            fi };
          atomic { CAN(n) -> launched[t] = 1; sup[t] = 1; holds[t] = 0; t = NO }
       :: atomic { won && CAN(n) && LEASE_FIRST -> launched[t] = 1; sup[t] = 1; holds[t] = 0; t = NO }
       fi
    :: atomic { CAN(n) && waiting && ANY_UNUSED && (UNIQUE || LOCK(n, 0) == NO) -> take_new(t, n) };
       atomic {                                                   /* rename the record to its new name */
         CAN(n) ->
         if
         :: waiting && !rec[NAME(t)] -> waiting = 0; rec[NAME(t)] = 1; spec[NAME(t)] = 1; mine[NAME(t)] = t;
            claimed[NAME(t)] = 0; res[NAME(t)] = NONE;            /* what is left in it is of an earlier attempt */
            node_of[NAME(t)] = n; rebooted[NAME(t)] = 0; nothing_is_lost()
         :: else
         fi;
         won = spec[NAME(t)]
       };
       if
       :: atomic { !won -> holds[t] = 0; let_go(t); t = NO }
       :: atomic { won && CAN(n) -> assert(!spec[NAME(t)] || mine[NAME(t)] == t);
            if
            :: rec[NAME(t)] -> write_claim(NAME(t), n)
            :: else -> won = 0                                     /* somebody has put it back already */
            fi;
            if
            :: won && !LEASE_FIRST && LOCK(n, NAME(t)) == NO -> LOCK(n, NAME(t)) = t
            :: else
            fi };
          atomic { CAN(n) ->
            if
            :: won -> launched[t] = 1; sup[t] = 1
            :: else
            fi;
            holds[t] = 0; let_go(t); t = NO }
       fi
    od
  } unless { atomic { kill_worker[n] -> kill_worker[n] = 0; t = NO; won = 0; goto end_idle } }
}

/* -- the supervisor of one claim, and its job */

inline start_job(t) {
  /* Promise 3: no second attempt beside a living one, but for what a takeover's price is. */
  byte u = 0;
  do
  :: u < TOKENS -> assert(u == t || !job[u] || excused[u] || excused[t]); u++
  :: else -> u = 0; break
  od;
  job[t] = 1;
  starts++
}

proctype supervisor(byte t) {
  byte state = NONE;
end_idle:
  {
end_loop:
    do
    :: atomic { launched[t] && sup[t] && !cut[at[t]] ->           /* note ourselves in the lock file */
         if
         :: NOTE -> noted[NAME(t)] = 1
         :: else
         fi };
       if
       :: atomic { !cut[at[t]] && !rec[NAME(t)] -> goto leave }   /* the logs cannot be opened: claim lost */
       :: atomic { !cut[at[t]] && rec[NAME(t)] -> state = NONE }
       fi;
       atomic { starts < ATTEMPTS + 2 -> start_job(t);            /* no call on the spool: it needs nothing of it */
         if
         :: deaf[t] = 1                                           /* a job may close every descriptor that it has */
         :: true
         fi };
       atomic { !cut[at[t]] -> noted[NAME(t)] = 2 };
       atomic {
         if
         :: state = DONE
         :: starts < ATTEMPTS -> state = WAITING                  /* it failed, and may try again */
         :: starts >= ATTEMPTS -> state = FAILED
         fi;
         job[t] = 0 };
       if
       :: RESULT_FIRST ->
          if
          :: atomic { !cut[at[t]] && rec[NAME(t)] -> res[NAME(t)] = state }
          :: atomic { !cut[at[t]] && !rec[NAME(t)] -> goto leave }
          fi
       :: else
       fi;
       atomic {                                                   /* rename it to where it belongs */
         !cut[at[t]] ->
         if
         :: rec[NAME(t)] && spec[NAME(t)] ->
            assert(mine[NAME(t)] == t);                           /* only who has the claim files */
            agree(NAME(t), state);
            move_out(NAME(t), state)
         :: else                                                  /* gone: claim lost, nothing is filed */
         fi
       };
leave:
       atomic { !cut[at[t]] -> sup[t] = 0; launched[t] = 0; unlock(at[t], NAME(t), t); state = NONE }
    od
  } unless { atomic { kill_sup[t] -> kill_sup[t] = 0; state = NONE; goto end_idle } }
}

/* -- recovery of own records, and takeover of a silent node's */

#define OWN(n, d) (node_of[d] == n)
#define MAY_TAKE(n, d) (words < WORD || (TAKEOVER && (was_silent[node_of[d]] || !WATCH)))
#define NEEDS_LEASE(n, d) ((OWN(n, d) && RECOVERY_LEASE) || (!OWN(n, d) && TAKEOVER_LEASE))
#define LIVES(d) (!rebooted[d] && ((noted[d] && sup[procs[d]]) || (noted[d] == 2 && job[procs[d]])))
#define CANDIDATE(n, d) (rec[d] && (OWN(n, d) -> !(LIVES(d) && res[d] == NONE) : MAY_TAKE(n, d)) && \
                         (!NEEDS_LEASE(n, d) || LOCK(n, d) == NO))

inline excuse(d) {
  /* A job on a silent node that has closed its descriptors, or whose lease the server gave away, cannot be seen from here. */
  if
  :: job[procs[d]] && (WORD || (was_silent[node_of[d]] && deaf[procs[d]])) -> excused[procs[d]] = 1
  :: (sup[procs[d]] || holds[procs[d]]) && WORD -> excused[procs[d]] = 1
  :: else
  fi
}

proctype recovery(byte n) {
  byte d = 0, t = NO, state = NONE;
  bool own = 0;
end_idle:
  {
end_loop:
    do
    :: atomic { CAN(n) && (CANDIDATE(n, 0) || CANDIDATE(n, 1) || CANDIDATE(n, 2)) && ANY_UNUSED ->
         if
         :: CANDIDATE(n, 0) -> d = 0
         :: CANDIDATE(n, 1) -> d = 1
         :: CANDIDATE(n, 2) -> d = 2
         fi;
         looks_at[n] = d; own = OWN(n, d);
         if
         :: WORD && !own -> words++
         :: else
         fi;
         if
         :: NEEDS_LEASE(n, d) -> LOCK(n, d) = RECOVERY + n
         :: else
         fi };
       atomic {                                                   /* a takeover: to a name of our own, under a lease of our own */
         CAN(n) && (own || !NEW_NAME || ANY_UNUSED) ->
         if
         :: !own && NEW_NAME && rec[d] -> take_new(t, n)
         :: else
         fi };
       if
       :: t != NO ->
          atomic { CAN(n) ->
            if
            :: rec[d] -> excuse(d);                               /* also where no spec is in it yet: it must not come later */
               rec[t] = 1; spec[t] = spec[d]; claimed[t] = claimed[d]; res[t] = res[d]; noted[t] = noted[d];
               node_of[t] = node_of[d]; procs[t] = procs[d]; rebooted[t] = rebooted[d]; mine[t] = t;
               wipe(d); nothing_is_lost()
            :: else -> holds[t] = 0; let_go(t); t = NO
            fi };
          atomic { unlock(n, d, RECOVERY + n);
            if
            :: t != NO -> d = t; looks_at[n] = NO
            :: else -> d = 0; own = 0; looks_at[n] = NO; goto end_idle
            fi }
       :: else
       fi;
       if
       :: atomic { CAN(n) && (!rec[d] || (own && LIVES(d) && res[d] == NONE)) -> goto leave }
       :: atomic { CAN(n) && rec[d] && !spec[d] -> wipe(d); goto leave }
       :: atomic { CAN(n) && rec[d] && spec[d] && res[d] != NONE -> state = res[d] }
       :: atomic { CAN(n) && rec[d] && spec[d] && res[d] == NONE && !(own && LIVES(d)) &&
                   (!claimed[d] || !noted[d]) -> state = NONE }
       :: atomic { CAN(n) && rec[d] && spec[d] && res[d] == NONE && !(own && LIVES(d)) && claimed[d] && noted[d] ->
            if
            :: own && !rebooted[d] -> job[procs[d]] = 0; let_go(procs[d])           /* end the strays */
            :: else
            fi;
            if
            :: starts < ATTEMPTS -> state = WAITING               /* restartable */
            :: state = FAILED
            fi };
          atomic { CAN(n) ->
            if
            :: rec[d] -> res[d] = state
            :: else -> goto leave
            fi }
       fi;
       atomic {
         CAN(n) ->
         if
         :: rec[d] && spec[d] && state == NONE -> move_out(d, WAITING)   /* never started: not counted */
         :: rec[d] && spec[d] && state != NONE -> excuse(d); agree(d, state); move_out(d, state)
         :: else
         fi };
leave:
       atomic { CAN(n) ->
         if
         :: t != NO -> holds[t] = 0; let_go(t); t = NO
         :: else -> unlock(n, d, RECOVERY + n)
         fi;
         d = 0; own = 0; state = NONE; looks_at[n] = NO }
    od
  } unless { atomic { kill_recovery[n] -> kill_recovery[n] = 0; looks_at[n] = NO; d = 0; t = NO; own = 0; state = NONE; goto end_idle } }
}

/* -- what goes wrong */

inline end_worker(n) {
  kill_worker[n] = 1; kill_recovery[n] = 1;
  byte u = 0;
  do
  :: u < TOKENS ->
     if
     :: at[u] == n && holds[u] -> holds[u] = 0; let_go(u)
     :: else
     fi;
     unlock(n, u, RECOVERY + n);
     u++
  :: else -> u = 0; break
  od
}

inline end_supervisor(t) { kill_sup[t] = 1; sup[t] = 0; launched[t] = 0 }

inline reboot(n) {
  end_worker(n);
  byte v = 0;
  do
  :: v < TOKENS ->
     if
     :: at[v] == n ->
        if
        :: sup[v] -> end_supervisor(v)
        :: else
        fi;
        job[v] = 0; let_go(v)
     :: else
     fi;
     if
     :: rec[v] && node_of[v] == n -> rebooted[v] = 1
     :: else
     fi;
     v++
  :: else -> v = 0; break
  od;
  was_silent[n] = 1; cut[n] = 0; stopped[n] = 0
}

inline cut_off(n) {
  cut[n] = 1; was_silent[n] = 1;
  byte w = 0;
  do
  :: w < TOKENS ->
     if
     :: at[w] == n && (job[w] || sup[w] || holds[w]) -> excused[w] = 1
     :: else
     fi;
     if
     :: SHARED && at[w] == n && LOCK(n, NAME(w)) == w -> LOCK(n, NAME(w)) = NO
     :: else
     fi;
     if
     :: SHARED -> unlock(n, w, RECOVERY + n)
     :: else
     fi;
     w++
  :: else -> w = 0; break
  od
}

proctype world() {
  byte x;
end_quiet:
  do
  :: atomic { kills < KILLS && !filed -> kills++;
       if
       :: end_worker(0)
       :: NODES > 1 -> end_worker(NODES - 1)
       fi }
  :: atomic { kills < KILLS && (sup[0] || sup[1] || sup[2]) -> kills++;
       if
       :: sup[0] -> x = 0
       :: sup[1] -> x = 1
       :: sup[2] -> x = 2
       fi;
       end_supervisor(x); let_go(x); x = 0 }
  :: atomic { reboots < REBOOTS && !filed -> reboots++; reboot(0) }
  :: atomic { cuts < CUTS && !filed -> cuts++; cut_off(0) }
  :: atomic { cut[0] -> cut[0] = 0 }
  :: atomic { stops < STOPS && !filed -> stops++; stopped[0] = 1; was_silent[0] = 1 }
  :: atomic { stopped[0] -> stopped[0] = 0 }
  :: atomic { job[0] && !sup[0] -> job[0] = 0; let_go(0) }        /* a job without a supervisor ends by itself */
  :: atomic { job[1] && !sup[1] -> job[1] = 0; let_go(1) }
  :: atomic { job[2] && !sup[2] -> job[2] = 0; let_go(2) }
  od
}

/* Where nothing can happen any more, the spec is filed: else this one waits for ever, at no end. */
proctype ends() { filed > 0 }

init {
  byte i = 0;
  atomic {
    do
    :: i < NODES * TOKENS -> lk[i] = NO; i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < TOKENS -> mine[i] = NO; run supervisor(i); i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < NODES -> looks_at[i] = NO; run worker(i); run recovery(i); i++
    :: else -> break
    od;
    run world(); run ends(); i = 0
  }
}
