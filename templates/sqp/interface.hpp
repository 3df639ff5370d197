// How a solve ended. Whatever it is, the results hold the best iterate and are finite.
enum class SQPStatus : int {
    SOLVED = 0,             // stationarity, feasibility and complementarity are within tolerance
    MAX_ITER = 1,           // settings.max_iterations
    INFEASIBLE = 2,         // a local minimum of the constraints' violation, or crossing bounds
    UNBOUNDED = 3,          // the objective falls without end
    LINE_SEARCH_FAILED = 4, // no acceptable point along the step
    QP_FAILED = 5,          // a quadratic program could not be solved
    EVALUATION_FAILED = 6,  // a function is not finite where it has to be
    TIME_LIMIT = 7          // settings.time_limit
};

enum class SQPGlobalization : int {
    FILTER = 0,  // accept what improves on all earlier iterates in objective or violation
    MERIT = 1,   // descend an exact l1 penalty function
    NONE = 2     // take full steps
};

struct SQPSettings {
    // Largest entry of the Lagrangian's gradient, divided by max(1, mean |multiplier| / 100).
    double tolerance_stationarity = 1e-6;
    // Largest violation of a constraint or bound.
    double tolerance_feasibility = 1e-6;
    // Largest product of a multiplier and the distance to its side, divided as the first one.
    double tolerance_complementarity = 1e-6;
    // Of the quadratic programs near the solution.
    double qp_tolerance = 1e-9;
    // Seconds; the best iterate so far is returned.
    double time_limit = 1e30;
    // Added to the diagonal of the Hessian (Levenberg-Marquardt).
    double regularization = 0.0;
    // Largest weight of the constraints in elastic mode.
    double largest_penalty = 1e7;
    int max_iterations = 100;
    int qp_max_iterations = 40;
    int max_line_search_steps = 30;
    SQPGlobalization globalization = SQPGlobalization::FILTER;
    // Correct steps for the curvature of constraints where they would be refused (1) or not (0).
    int second_order_correction = 1;
    // Where a quadratic program has no feasible point, minimise its violation (1) or give up (0).
    int elastic = 1;
    // Start from the given multipliers (1) or from zero (0).
    int warm_start = 0;
};

// One line of a log: an iterate and the step that led to it.
struct SQPIteration {
    int iteration;
    int qp_iterations;
    int line_search_steps;
    int elastic;
    double objective;
    double stationarity;
    double infeasibility;
    double complementarity;
    double step;
    double step_length;
    double penalty;
    double time;
};

struct SQPStatistics {
    int iterations;
    int qp_iterations;
    int qps;
    int evaluations;
    int corrections;
    int elastic_steps;
    double objective;
    double stationarity;
    double infeasibility;
    double complementarity;
    double time;              // seconds, as all below
    double time_evaluation;
    double time_qp;
    double time_line_search;
};

// Called with every iterate if given.
using SQPMonitor = void (*)(void* context, const SQPIteration* iteration);
