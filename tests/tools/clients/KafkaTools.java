import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Java programs one after the other in one JVM, because each start of a JVM takes a second or two.
 *
 * A line of standard input is a JSON array, a class and its arguments; the answer is a line with status, stdout and stderr.
 */
public class KafkaTools {
    private static final ObjectMapper JSON = new ObjectMapper();

    /** What a tool's exit becomes, so that nothing after it runs. */
    private static final class Exited extends RuntimeException {
        Exited() {
            super("exit", null, false, false);
        }
    }

    /** The first exit of the tool that runs: some catch all that is thrown and exit again, with another status. */
    private static Integer exitStatus;

    public static void main(String[] args) throws Exception {
        PrintStream answers = System.out;
        // Set once: Scala's Console keeps the stream that it has met first.
        ByteArrayOutputStream stdout = new ByteArrayOutputStream();
        ByteArrayOutputStream stderr = new ByteArrayOutputStream();
        System.setOut(new PrintStream(stdout, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(stderr, true, StandardCharsets.UTF_8));
        Exit.Procedure exit = (status, message) -> {
            if (message != null) {
                System.err.println(message);
            }
            if (exitStatus == null) {
                exitStatus = status;
            }
            throw new Exited();
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        Exit.setShutdownHookAdder((name, hook) -> { });
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = commands.readLine()) != null; ) {
            JsonNode command = JSON.readTree(line);
            String[] arguments = new String[command.size() - 1];
            for (int i = 0; i < arguments.length; i++) {
                arguments[i] = command.get(i + 1).asText();
            }
            int status = run(command.get(0).asText(), arguments);
            System.out.flush();
            System.err.flush();
            ObjectNode answer = JSON.createObjectNode();
            answer.put("status", status);
            answer.put("stdout", stdout.toString(StandardCharsets.UTF_8));
            answer.put("stderr", stderr.toString(StandardCharsets.UTF_8));
            stdout.reset();
            stderr.reset();
            answers.println(JSON.writeValueAsString(answer));
            answers.flush();
        }
    }

    private static int run(String name, String[] arguments) {
        exitStatus = null;
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) arguments);
            return exitStatus == null ? 0 : exitStatus;
        } catch (InvocationTargetException thrown) {
            if (exitStatus != null) {
                return exitStatus;
            }
            thrown.getCause().printStackTrace();
            return 1;
        } catch (ReflectiveOperationException missing) {
            missing.printStackTrace();
            return 1;
        }
    }
}
