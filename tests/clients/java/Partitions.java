import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HexFormat;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

/** Reads keys from stdin, one in hexadecimal a line, and writes the partition of 12 of each, as Java's producer chooses it. */
public class Partitions {
  public static void main(String[] arguments) throws Exception {
    var lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      System.out.println(BuiltInPartitioner.partitionForKey(HexFormat.of().parseHex(line), 12));
    }
  }
}
